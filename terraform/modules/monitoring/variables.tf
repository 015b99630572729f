variable "name" {
  description = "What names of resources begin with."
  type        = string
}

variable "region" {
  description = "The region's name in Sluice."
  type        = string
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "private_subnets" {
  description = "Ids of the private subnets; the machine is in the first."
  type        = list(string)
}

variable "public_subnets" {
  description = "Ids of the public subnets, for people's way in to Grafana."
  type        = list(string)
}

variable "zone" {
  description = "Zone of the first private subnet."
  type        = string
}

variable "groups" {
  description = "Ids of the security groups monitor and grafana."
  type        = map(string)
}

variable "ami" {
  description = "Image of Debian 13 that the machine starts from; null: Debian's own, the newest when it is made."
  type        = string
}

variable "architecture" {
  description = "Of the instance: amd64 or arm64."
  type        = string
}

variable "instance_type" {
  description = "Type of the instance."
  type        = string
}

variable "grafana_image" {
  description = "Image of Grafana."
  type        = string
}

variable "grafana_generation" {
  description = "Grafana's password is made anew when it grows."
  type        = number
}

variable "certificate_arn" {
  description = "Certificate that people's browsers are shown."
  type        = string
}

variable "grafana_clients" {
  description = "Networks from which Grafana may be opened; none: through the VPC alone."
  type        = list(string)
}

variable "domain" {
  description = "Name of the service; Grafana is at `grafana.` before it. null: at its load balancer's own name."
  type        = string
}

variable "zone_id" {
  description = "Zone of Route 53 that `domain` is in; null: it is somewhere else, and pointed at the load balancer by hand."
  type        = string
}

variable "cluster" {
  description = "Cluster of ECS with the edges."
  type        = string
}

variable "service" {
  description = "Their service in it."
  type        = string
}

variable "alert_topic_arn" {
  description = "Topic of SNS that alerts are sent to; null: they are shown, and nobody is called."
  type        = string
}

variable "retention_days" {
  description = "Days that metrics are kept."
  type        = number
}

variable "disk_gib" {
  description = "Disk for metrics. A thousand series scraped each 15 s are some 15 MB a day."
  type        = number
}
