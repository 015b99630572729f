variable "name" {
  description = "What names of resources begin with."
  type        = string
}

variable "domain" {
  description = "Domain of names that exist within the deployment's networks alone."
  type        = string
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "subnets" {
  description = "Ids of three private subnets in three zones."
  type        = list(string)
}

variable "cidrs" {
  description = "Their IPv4 networks."
  type        = list(string)
}

variable "zones" {
  description = "Their zones."
  type        = list(string)
}

variable "groups" {
  description = "Ids of the security groups redis, etcd and kafka."
  type        = map(string)
}

variable "ami" {
  description = "Image of Debian 13 that etcd's instances start from; null: Debian's own, the newest when they are made."
  type        = string
  default     = null
}

variable "architecture" {
  description = "Of etcd's instances: amd64 or arm64."
  type        = string
}

variable "etcd_instance_type" {
  description = "Type of each of etcd's three instances."
  type        = string
}

variable "redis_node_type" {
  description = "Type of each of Redis' two nodes."
  type        = string
}

variable "kafka" {
  description = "none; brokers (there are some), with a user and the ARN of a secret {\"password\": …}; or msk (they are made), with a type and a disk."
  type = object({
    mode       = string
    brokers    = list(string)
    username   = string
    secret_arn = string
    type       = string
    disk_gib   = number
  })

  validation {
    condition     = contains(["none", "brokers", "msk"], var.kafka.mode)
    error_message = "kafka.mode must be none, brokers or msk."
  }

  validation {
    condition     = var.kafka.mode != "brokers" || length(var.kafka.brokers) > 0 && var.kafka.username != null && var.kafka.secret_arn != null
    error_message = "With kafka.mode = brokers, kafka.brokers, kafka.username and kafka.secret_arn are needed."
  }
}

variable "generations" {
  description = "Secrets are made anew when their number grows."
  type        = object({ auth = number, session = number, redis = number, kafka = number, certificates = number })

  validation {
    condition     = alltrue([for number in values(var.generations) : number >= 1 && floor(number) == number])
    error_message = "Generations are whole numbers, from 1."
  }
}

variable "regions" {
  description = "Weight of each region of the deployment, and its distances to others."
  type        = map(object({ weight = number, distances = map(number) }))
}

variable "edges" {
  description = "Services of edges, which are started anew when their certificate is: by AWS region, cluster and name."
  type        = list(object({ region = string, cluster = string, service = string }))
}

variable "replicas" {
  description = "AWS regions that get copies of the secrets which edges and nodes read."
  type        = set(string)
}
