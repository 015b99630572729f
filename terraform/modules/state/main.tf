# What a deployment knows: rooms and sessions in Redis, who lives in etcd, logs and events in Kafka, and its secrets. There is one of it, in the
# region that is home.

data "aws_region" "current" {}

data "aws_partition" "current" {}

data "aws_caller_identity" "current" {}

locals {
  arn = "arn:${data.aws_partition.current.partition}"
}

# Names of etcd's members, and of what certificates are for.
resource "aws_route53_zone" "this" {
  #checkov:skip=CKV2_AWS_38:DNSSEC is for public zones.
  #checkov:skip=CKV2_AWS_39:Queries of a private zone are those of its own machines.
  name = var.domain

  vpc {
    vpc_id = var.vpc_id
  }

  # Other regions' networks are added by themselves.
  lifecycle {
    ignore_changes = [vpc]
  }
}

# What machines look up again and again: a change of it changes no machine.
resource "aws_ssm_parameter" "facts" {
  #checkov:skip=CKV2_AWS_34:There is nothing secret in it.
  name = "/${var.name}/facts"
  type = "String"

  value = jsonencode({
    certificates = var.generations.certificates
    regions      = var.regions
    edges        = var.edges
  })
}
