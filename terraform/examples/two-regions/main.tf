# Two regions: Frankfurt is the home of the state, Virginia joins it. Each serves its own clients and is the other's overflow. A room's members may be
# in both.

terraform {
  required_version = ">= 1.11"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.50"
    }
  }
}

provider "aws" {
  region = "eu-central-1"

  default_tags {
    tags = { Project = "sluice" }
  }
}

provider "aws" {
  alias  = "virginia"
  region = "us-east-1"

  default_tags {
    tags = { Project = "sluice" }
  }
}

variable "images" {
  description = "Images of both services."
  type        = object({ edge = string, node = string })
}

variable "domain" {
  description = "Domain below which the regions' names are: eu., us."
  type        = string
}

variable "zone_id" {
  description = "Zone of Route 53 that it is in."
  type        = string
}

variable "operators" {
  description = "Networks that may open Grafana."
  type        = list(string)
}

variable "alert_topics" {
  description = "Topics of SNS that alerts are sent to, by region."
  type        = object({ frankfurt = optional(string), virginia = optional(string) })
  default     = {}
}

locals {
  regions = {
    eu-central-1 = { cidr = "10.0.0.0/16", weight = 2, distances = { us-east-1 = 90 } }
    us-east-1    = { cidr = "10.1.0.0/16", weight = 1, distances = { eu-central-1 = 90 } }
  }
}

module "frankfurt" {
  source = "../../region"

  images     = var.images
  domain     = "eu.${var.domain}"
  zone_id    = var.zone_id
  cidr       = local.regions.eu-central-1.cidr
  regions    = local.regions
  kafka      = { mode = "msk" }
  recordings = { enabled = true, archive_days = 30, expire_days = 365 }
  nodes      = { instance_types = ["c7i.2xlarge", "c6i.2xlarge"], spot = 50 }
  monitoring = { grafana_clients = var.operators, alert_topic_arn = var.alert_topics.frankfurt }
}

module "virginia" {
  source    = "../../region"
  providers = { aws = aws.virginia }

  images     = var.images
  domain     = "us.${var.domain}"
  zone_id    = var.zone_id
  cidr       = local.regions.us-east-1.cidr
  regions    = local.regions
  home       = module.frankfurt.state
  recordings = { enabled = true, archive_days = 30, expire_days = 365 }
  nodes      = { instance_types = ["c7i.2xlarge", "c6i.2xlarge"], spot = 50 }
  monitoring = { grafana_clients = var.operators, alert_topic_arn = var.alert_topics.virginia }
}

module "peering" {
  source    = "../../modules/peering"
  providers = { aws.home = aws, aws.joining = aws.virginia }

  name    = "sluice"
  home    = module.frankfurt.network
  joining = module.virginia.network
  zone_id = module.frankfurt.zone_id
}

output "urls" {
  description = "Where clients connect: give them both."
  value       = [module.frankfurt.url, module.virginia.url]
}

output "first_token" {
  description = "The command that makes an access token, good in both."
  value       = module.frankfurt.first_token
}

output "grafana" {
  description = "Where the Grafana of each is."
  value       = { frankfurt = module.frankfurt.grafana, virginia = module.virginia.grafana }
}
