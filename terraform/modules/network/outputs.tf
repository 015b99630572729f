output "vpc_id" {
  description = "The VPC."
  value       = aws_vpc.this.id
}

output "cidr" {
  description = "Its IPv4 network."
  value       = aws_vpc.this.cidr_block
}

output "zones" {
  description = "The zones, in the order of the subnets."
  value       = local.zones
}

output "public_subnets" {
  description = "Ids of the subnets that are reached from the Internet, one for each zone."
  value       = aws_subnet.public[*].id
}

output "public_cidrs" {
  description = "Their IPv4 networks."
  value       = aws_subnet.public[*].cidr_block
}

output "private_subnets" {
  description = "Ids of the subnets that are not, one for each zone."
  value       = aws_subnet.private[*].id
}

output "private_cidrs" {
  description = "Their IPv4 networks."
  value       = aws_subnet.private[*].cidr_block
}

output "route_tables" {
  description = "Ids of all route tables, for routes to other regions."
  value       = concat([aws_route_table.public.id], aws_route_table.private[*].id)
}

output "groups" {
  description = "Ids of the security groups: balancer, edge, node, monitor, grafana, and at home redis, etcd, kafka."
  value       = { for name, group in aws_security_group.this : name => group.id }
}
