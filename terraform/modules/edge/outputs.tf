output "host" {
  description = "Where clients connect: wss://HOST/ws."
  value       = coalesce(var.domain, aws_lb.edge.dns_name)
}

output "balancer" {
  description = "The load balancer's own name, which a domain that is not in Route 53 has to point at."
  value       = aws_lb.edge.dns_name
}

output "certificate_arn" {
  description = "The certificate that browsers are shown."
  value       = local.certificate_arn
}

output "cluster" {
  description = "Name of the cluster of ECS."
  value       = aws_ecs_cluster.this.name
}

output "service" {
  description = "Name of the edges' service there."
  value       = aws_ecs_service.edge.name
}
