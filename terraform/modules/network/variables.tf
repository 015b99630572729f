variable "name" {
  description = "What names of resources begin with."
  type        = string
}

variable "cidr" {
  description = "IPv4 addresses of the VPC, /16 to /20. Regions that are peered must not overlap."
  type        = string

  validation {
    condition     = can(cidrnetmask(var.cidr)) && try(tonumber(split("/", var.cidr)[1]) >= 16 && tonumber(split("/", var.cidr)[1]) <= 20, false)
    error_message = "Must be an IPv4 network of /16 to /20, such as 10.0.0.0/16."
  }
}

variable "zones" {
  description = "Three zones of the region; null: the first three that AWS names."
  type        = list(string)
}

variable "nat" {
  description = "Gateways for what private subnets fetch: `per_zone` goes on when a zone fails, `single` costs a third of it."
  type        = string

  validation {
    condition     = contains(["per_zone", "single"], var.nat)
    error_message = "Must be per_zone or single."
  }
}

variable "media_ports" {
  description = "First UDP port of SFU nodes, and how many of them: one for each shard."
  type        = object({ first = number, count = number })
}

variable "clients" {
  description = "Networks from which clients may connect, of either family."
  type        = list(string)
}

variable "grafana_clients" {
  description = "Networks from which Grafana may be opened; none: there is no way in but through the VPC."
  type        = list(string)
}

variable "peers" {
  description = "IPv4 networks of other regions of this deployment, by region."
  type        = map(string)
}

variable "is_home" {
  description = "Whether the state stands here: Redis, etcd and Kafka."
  type        = bool
}

variable "home_cidr" {
  description = "IPv4 network of the region where the state stands, where that is not this one."
  type        = string
  default     = null
}

variable "kafka_port" {
  description = "Port of Kafka's brokers; null: there are none."
  type        = number
  default     = null
}
