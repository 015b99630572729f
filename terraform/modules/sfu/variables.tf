variable "name" {
  description = "What names of resources begin with."
  type        = string
}

variable "region" {
  description = "The region's name in Sluice."
  type        = string
}

variable "image" {
  description = "Image that nodes run, with a tag or a digest."
  type        = string
}

variable "architecture" {
  description = "Of the instances and the image: amd64 or arm64."
  type        = string
}

variable "instance_types" {
  description = "Types of instances, the one that is preferred first; they should be equally large, and of one architecture."
  type        = list(string)

  validation {
    condition     = length(var.instance_types) > 0
    error_message = "At least one type is needed."
  }
}

variable "ami" {
  description = "Image of Debian 13 that instances start from; null: Debian's own, the newest."
  type        = string
  default     = null
}

variable "count_range" {
  description = "How few and how many nodes there may be."
  type        = object({ min = number, max = number })

  validation {
    condition     = var.count_range.min >= 1 && var.count_range.max >= var.count_range.min
    error_message = "At least one node, and no fewer at most than at least."
  }
}

variable "target_load" {
  description = "Mean load at which the group is kept: a share of what nodes refuse from."
  type        = number

  validation {
    condition     = var.target_load > 0 && var.target_load < 1
    error_message = "Must be between 0 and 1."
  }
}

variable "spot" {
  description = "Share of the nodes beyond the first that are spot instances, in percent. Each may be taken away within two minutes; its streams move."
  type        = number

  validation {
    condition     = var.spot >= 0 && var.spot <= 100
    error_message = "Must be 0 to 100."
  }
}

variable "drain_timeout" {
  description = "Seconds that streams have to move away from a node that ends."
  type        = number

  validation {
    condition     = var.drain_timeout >= 0 && var.drain_timeout <= 3600
    error_message = "Must be 0 to 3600."
  }
}

variable "media_ports" {
  description = "First UDP port, and how many: one for each shard."
  type        = object({ first = number, count = number })
}

variable "subnets" {
  description = "Ids of the public subnets."
  type        = list(string)
}

variable "group" {
  description = "Id of the nodes' security group."
  type        = string
}

variable "etcd_endpoints" {
  description = "Where etcd's members are."
  type        = list(string)
}

variable "tls_secret" {
  description = "ARN of the secret with the nodes' certificate, in this region."
  type        = string
}

variable "kafka" {
  description = "Brokers, the user, and the ARN of the secret with its password, in this region; null: no Kafka."
  type        = object({ brokers = list(string), username = string, secret = string })
}

variable "recordings" {
  description = "How recordings are kept: days after which they are removed (null: never), and days after which they move to cheaper storage (null: never), and whether they go with the region when it is destroyed."
  type        = object({ enabled = bool, expire_days = number, archive_days = number, destroy = bool })
}

variable "settings" {
  description = "Further settings of nodes, as in docs/configuration.md."
  type        = any
}
