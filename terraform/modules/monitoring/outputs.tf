output "grafana" {
  description = "Where Grafana is. null: through the VPC alone, port 3000 of the machine."
  value       = local.open == 0 ? null : var.domain == null ? "https://${aws_lb.grafana[0].dns_name}/" : "https://grafana.${var.domain}/"
}

output "grafana_balancer" {
  description = "The load balancer's own name, which `grafana.` and the domain have to point at where that is not in Route 53."
  value       = one(aws_lb.grafana[*].dns_name)
}

output "grafana_secret" {
  description = "ARN of the secret with the password of Grafana's user admin."
  value       = aws_secretsmanager_secret.grafana.arn
}

output "instance_id" {
  description = "The machine that Prometheus and Grafana run on."
  value       = aws_instance.this.id
}
