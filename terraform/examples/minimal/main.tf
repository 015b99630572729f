# The least that people can call one another with: one region, two edges, two SFU nodes.
#
#   terraform init
#   terraform apply -var domain=calls.example.com -var zone_id=Z… \
#     -var 'images={edge="…/sluice/edge-signal:0.1.0", node="…/sluice/sfu-node:0.1.0"}'
#   terraform output

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
  region = var.region

  default_tags {
    tags = { Project = "sluice" }
  }
}

variable "region" {
  description = "AWS' name of the region."
  type        = string
  default     = "eu-central-1"
}

variable "images" {
  description = "Images of both services."
  type        = object({ edge = string, node = string })
}

variable "domain" {
  description = "Name of the service."
  type        = string
}

variable "zone_id" {
  description = "Zone of Route 53 that it is in."
  type        = string
}

variable "my_network" {
  description = "Where you are: the network that may open Grafana."
  type        = list(string)
  default     = []
}

module "sluice" {
  source = "../../region"

  images             = var.images
  domain             = var.domain
  zone_id            = var.zone_id
  nat                = "single"
  edges              = { cpu = 512, memory = 1024, max = 4, connections = 4000 }
  nodes              = { instance_types = ["c7i.large"], shards = 1, max = 4, egress_bps = 500000000, tracks = 1000 }
  redis_node_type    = "cache.t4g.small"
  etcd_instance_type = "t3.small"
  monitoring         = { instance_type = "t3.small", disk_gib = 20, grafana_clients = var.my_network }
}

output "url" {
  description = "Where clients connect."
  value       = module.sluice.url
}

output "first_token" {
  description = "The command that makes an access token."
  value       = module.sluice.first_token
}

output "grafana" {
  description = "Where Grafana is."
  value       = module.sluice.grafana
}

output "grafana_password" {
  description = "The command that shows the password of its user admin."
  value       = module.sluice.grafana_password
}
