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

  # What is in them begins when there is a way out, and has ended before it goes: machines say farewell.
  depends_on = [aws_route.public_ipv4, aws_route.public_ipv6, aws_route_table_association.public, aws_vpc_endpoint.s3, aws_vpc_security_group_egress_rule.leaving]
}

output "public_cidrs" {
  description = "Their IPv4 networks."
  value       = aws_subnet.public[*].cidr_block
}

output "private_subnets" {
  description = "Ids of the subnets that are not, one for each zone."
  value       = aws_subnet.private[*].id

  depends_on = [aws_route.private_ipv4, aws_route.private_ipv6, aws_route_table_association.private, aws_vpc_endpoint.s3, aws_vpc_security_group_egress_rule.leaving]
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
