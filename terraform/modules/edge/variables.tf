variable "name" {
  description = "What names of resources begin with."
  type        = string
}

variable "region" {
  description = "The region's name in Sluice."
  type        = string
}

variable "image" {
  description = "Image that edges run, with a tag or a digest."
  type        = string
}

variable "architecture" {
  description = "Of the image: amd64 or arm64."
  type        = string
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "public_subnets" {
  description = "Ids of the load balancer's subnets."
  type        = list(string)
}

variable "public_cidrs" {
  description = "Their IPv4 networks: whoever connects from there is believed when it says for whom."
  type        = list(string)
}

variable "private_subnets" {
  description = "Ids of the edges' subnets."
  type        = list(string)
}

variable "groups" {
  description = "Ids of the security groups balancer and edge."
  type        = map(string)
}

variable "certificate_arn" {
  description = "Certificate of ACM that browsers are shown; null: one is made for `domain`."
  type        = string
}

variable "domain" {
  description = "Name of the service; null: the load balancer's own."
  type        = string
}

variable "zone_id" {
  description = "Zone of Route 53 that `domain` is in; null: it is somewhere else, and pointed at the load balancer by hand."
  type        = string
}

variable "size" {
  description = "CPU units (1024 are a core) and MiB of each edge, as Fargate has them."
  type        = object({ cpu = number, memory = number })

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096, 8192, 16384], var.size.cpu) && var.size.memory >= 2 * var.size.cpu && var.size.memory <= 8 * var.size.cpu
    error_message = "Fargate has 256, 512, 1024, 2048, 4096, 8192 or 16384 CPU units, with 2 to 8 MiB for each."
  }
}

variable "count_range" {
  description = "How few and how many edges there may be."
  type        = object({ min = number, max = number })

  validation {
    condition     = var.count_range.min >= 2 && var.count_range.max >= var.count_range.min
    error_message = "At least two edges, one of which may die, and no fewer at most than at least."
  }
}

variable "target" {
  description = "What scaling keeps each edge at: connections, and percent of its CPU."
  type        = object({ connections = number, cpu = number })
}

variable "drain" {
  description = "Seconds over which an edge that ends sends its clients to others, and how long it may take after that."
  type        = object({ spread = number, timeout = number })

  validation {
    # Fargate waits for 120 s at most.
    condition     = var.drain.spread >= 0 && var.drain.timeout >= 2 && var.drain.spread + var.drain.timeout <= 110
    error_message = "Together at most 110: Fargate kills what has not ended 120 seconds after it was told to."
  }
}

variable "etcd_endpoints" {
  description = "Where etcd's members are."
  type        = list(string)
}

variable "node_server_name" {
  description = "The name that nodes' certificates are for."
  type        = string
}

variable "secrets" {
  description = "ARNs of the secrets auth, session, redis, edge, and kafka if there is one, in this region."
  type        = map(string)
}

variable "auth_has_previous" {
  description = "Whether tokens that were made with the secret before are good, too."
  type        = bool
}

variable "revision" {
  description = "Edges are started anew when it changes."
  type        = string
}

variable "kafka" {
  description = "Brokers and the user; null: no Kafka."
  type        = object({ brokers = list(string), username = string })
}

variable "settings" {
  description = "Further settings of edges, as in docs/configuration.md."
  type        = any
}

variable "log_days" {
  description = "Days that logs are kept in CloudWatch."
  type        = number
}

variable "nodes" {
  description = "What is known when the region's first SFU nodes are ready, and so everything that edges need: they are started then. Those that could not start a few times in turn would be given up."
  type        = string
}
