# What a region is made of. Everything but the images has a value that will do for a first call; what it costs is in ../README.md.

variable "name" {
  description = "What names of resources begin with: short, lower case. Two deployments of one account have different ones."
  type        = string
  default     = "sluice"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,15}$", var.name))
    error_message = "1 to 16 lower-case letters, digits and hyphens, with a letter first."
  }
}

variable "images" {
  description = "Images of both services, each with a tag (not latest) or a digest; Fargate and the instances fetch them."
  type        = object({ edge = string, node = string })

  validation {
    condition = alltrue([
      for image in values(var.images) : can(regex("^[a-z0-9./_:-]+(:[A-Za-z0-9_][A-Za-z0-9._-]*|@sha256:[0-9a-f]{64})$", image)) && !endswith(image, ":latest")
    ])
    error_message = "Each must end with a tag that is not latest, or with a digest: registry/repository:tag."
  }
}

variable "architecture" {
  description = "Of the images and all machines: amd64 or arm64. The types of instances have to be of it."
  type        = string
  default     = "amd64"

  validation {
    condition     = contains(["amd64", "arm64"], var.architecture)
    error_message = "Must be amd64 or arm64."
  }
}

variable "ami" {
  description = "Image of Debian 13 that machines start from, as one of your own with all packages on it; null: Debian's newest."
  type        = string
  default     = null

  validation {
    condition     = var.ami == null || can(regex("^ami-[0-9a-f]{8,17}$", var.ami))
    error_message = "Must be the id of an AMI."
  }
}

variable "cidr" {
  description = "IPv4 addresses of the VPC, /16 to /20. Regions of one deployment must not overlap."
  type        = string
  default     = "10.0.0.0/16"
}

variable "zones" {
  description = "Three zones of the region, such as eu-central-1a; null: the first three that AWS names. Name them where instances are not to be had in one of these."
  type        = list(string)
  default     = null

  validation {
    condition     = var.zones == null || try(length(var.zones) == 3 && length(distinct(var.zones)) == 3, false)
    error_message = "Must be three different zones."
  }
}

variable "nat" {
  description = "Gateways for what private subnets fetch: `per_zone` goes on when a zone fails, `single` costs a third of it."
  type        = string
  default     = "per_zone"
}

variable "clients" {
  description = "Networks from which clients may connect, of either family."
  type        = list(string)
  default     = ["0.0.0.0/0", "::/0"]

  validation {
    condition     = length(var.clients) > 0 && alltrue([for network in var.clients : can(cidrhost(network, 0))])
    error_message = "Must be networks, such as 0.0.0.0/0 and ::/0, at least one."
  }
}

variable "domain" {
  description = "Name of the service, such as calls.example.com; null: the load balancer's own name, which your certificate has to be for."
  type        = string
  default     = null

  validation {
    condition     = var.domain == null || can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.domain))
    error_message = "Must be a name like calls.example.com."
  }
}

variable "zone_id" {
  description = "Zone of Route 53 that `domain` is in: names and a certificate are made there. null: give certificate_arn, and point the names yourself."
  type        = string
  default     = null

  validation {
    condition     = var.zone_id == null || var.domain != null
    error_message = "With zone_id, domain is needed: which name is it to be?"
  }
}

variable "certificate_arn" {
  description = "Certificate of ACM in this region that browsers are shown, for `domain` and `grafana.` before it; null: one is made, for which zone_id is needed."
  type        = string
  default     = null

  validation {
    condition     = var.certificate_arn != null || var.zone_id != null
    error_message = "Browsers want TLS: give certificate_arn, or domain and zone_id, with which one is made."
  }
}

variable "edges" {
  description = "How few and how many edges, how large each (1024 CPU units are a core), and what scaling keeps them at: connections, and percent of CPU."
  type = object({
    min         = optional(number, 2)
    max         = optional(number, 10)
    cpu         = optional(number, 1024)
    memory      = optional(number, 2048)
    connections = optional(number, 8000)
    cpu_percent = optional(number, 50)
  })
  default = {}

  validation {
    # An edge takes 20,000 by itself.
    condition     = var.edges.connections >= 100 && var.edges.connections <= 20000
    error_message = "edges.connections must be 100 to 20000 (limits.connections of an edge)."
  }

  validation {
    condition     = var.edges.cpu_percent >= 10 && var.edges.cpu_percent <= 90
    error_message = "edges.cpu_percent must be 10 to 90."
  }
}

variable "edge_drain" {
  description = "Seconds over which an edge that ends sends its clients to others, and how long it may take after that; together at most 110."
  type        = object({ spread = optional(number, 60), timeout = optional(number, 30) })
  default     = {}
}

variable "nodes" {
  description = "SFU nodes: how few and how many, their types, shards (one for each core, less one), the load they are kept at (1: they refuse), percent of spot instances, seconds a drain may take, bits per second and subscribed tracks that each can carry."
  type = object({
    min            = optional(number, 2)
    max            = optional(number, 20)
    instance_types = optional(list(string), ["c7i.2xlarge"])
    shards         = optional(number, 7)
    first_port     = optional(number, 40000)
    load           = optional(number, 0.6)
    spot           = optional(number, 0)
    drain          = optional(number, 600)
    egress_bps     = optional(number, 3000000000)
    tracks         = optional(number, 8000)
  })
  default = {}

  validation {
    condition     = var.nodes.shards >= 1 && var.nodes.shards <= 63 && floor(var.nodes.shards) == var.nodes.shards
    error_message = "nodes.shards must be 1 to 63."
  }

  validation {
    condition     = var.nodes.first_port >= 1024 && var.nodes.first_port + var.nodes.shards <= 65536
    error_message = "nodes.first_port must leave room for a port of each shard, from 1024 on."
  }
}

variable "recordings" {
  description = "Whether nodes record (to a bucket of their region), days after which recordings move to cheaper storage and are removed (null: never), and whether `terraform destroy` takes them along."
  type = object({
    enabled      = optional(bool, false)
    archive_days = optional(number)
    expire_days  = optional(number)
    destroy      = optional(bool, false)
  })
  default = {}
}

variable "redis_node_type" {
  description = "Type of Redis' two nodes. 12 KB for each member of a room, 6.4 µs of a core a second."
  type        = string
  default     = "cache.m7g.large"
}

variable "etcd_instance_type" {
  description = "Type of etcd's three instances."
  type        = string
  default     = "t3.medium"
}

variable "kafka" {
  description = "Where logs and events go besides: mode none; brokers, with their addresses (SASL/SCRAM-SHA-512 over TLS), a user and the ARN of a secret {\"password\": …}; or msk, which are made, with a type and GiB of disk each."
  type = object({
    mode       = optional(string, "none")
    brokers    = optional(list(string), [])
    username   = optional(string)
    secret_arn = optional(string)
    type       = optional(string, "kafka.m7g.large")
    disk_gib   = optional(number, 100)
  })
  default = {}
}

variable "monitoring" {
  description = "The machine of Prometheus and Grafana: its type, GiB of disk and days of metrics, Grafana's image, networks from which Grafana may be opened (none: through the VPC alone), and a topic of SNS that alerts are sent to."
  type = object({
    instance_type   = optional(string, "t3.medium")
    disk_gib        = optional(number, 50)
    days            = optional(number, 15)
    grafana_image   = optional(string, "docker.io/grafana/grafana:11.4.0")
    grafana_clients = optional(list(string), [])
    alert_topic_arn = optional(string)
  })
  default = {}

  validation {
    condition     = alltrue([for network in var.monitoring.grafana_clients : can(cidrhost(network, 0)) && !endswith(network, "/0")])
    error_message = "monitoring.grafana_clients must be networks, and none of them the whole Internet."
  }
}

variable "log_days" {
  description = "Days that edges' logs are kept in CloudWatch."
  type        = number
  default     = 30

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731], var.log_days)
    error_message = "CloudWatch keeps logs for 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545 or 731 days."
  }
}

variable "generations" {
  description = "A secret is made anew when its number grows: auth (of access tokens; the one before is good, too), session, redis, kafka, certificates, grafana."
  type = object({
    auth         = optional(number, 1)
    session      = optional(number, 1)
    redis        = optional(number, 1)
    kafka        = optional(number, 1)
    certificates = optional(number, 1)
    grafana      = optional(number, 1)
  })
  default = {}
}

variable "regions" {
  description = "All regions of the deployment by their AWS names, this one included: their networks, weights, and distances to one another (any unit; round trips in ms will do). Empty: this one alone. The same in each."
  type = map(object({
    cidr      = string
    weight    = optional(number, 1)
    distances = optional(map(number), {})
  }))
  default = {}

  validation {
    condition     = alltrue([for region in values(var.regions) : can(cidrhost(region.cidr, 0)) && region.weight >= 0])
    error_message = "Each region has a network (cidr) and a weight of 0 or more."
  }

  validation {
    condition     = alltrue(flatten([for name, region in var.regions : [for other in keys(region.distances) : contains(keys(var.regions), other) && other != name]]))
    error_message = "Distances are to other regions that are listed, too."
  }
}

variable "home" {
  description = "Where the state stands, if not here: the output `state` of that region's module."
  type = object({
    region           = string
    etcd_endpoints   = list(string)
    node_server_name = string
    secrets          = map(string)
    previous_auth    = bool
    revision         = string
    kafka            = object({ brokers = list(string), username = string, port = number })
  })
  default = null
}

variable "edge_settings" {
  description = "Further settings of edges by their first keys, as in docs/configuration.md: {limits = {connections = 10000}}. They win over what is set here."
  type        = any
  default     = {}
}

variable "node_settings" {
  description = "Likewise of nodes."
  type        = any
  default     = {}
}
