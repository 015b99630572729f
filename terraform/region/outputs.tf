output "url" {
  description = "Where clients connect."
  value       = "wss://${module.edge.host}/ws"
}

output "first_token" {
  description = "The command that makes an access token: for alice, in the room weekly, for an hour. Whoever runs it may read the secret."
  value       = "SLUICE_AUTH__HS256_SECRET=\"$(aws secretsmanager get-secret-value --region ${local.region} --secret-id '${local.secrets.auth}' --query SecretString --output text)\" sluice token --peer alice --room weekly"
}

output "grafana" {
  description = "Where Grafana is; its user is admin."
  value       = module.monitoring.grafana
}

output "grafana_password" {
  description = "The command that shows Grafana's password."
  value       = "aws secretsmanager get-secret-value --region ${local.region} --secret-id '${module.monitoring.grafana_secret}' --query SecretString --output text"
}

output "names" {
  description = "What to point at what, where the domain is not in Route 53."
  value       = var.domain == null || var.zone_id != null ? {} : { (var.domain) = module.edge.balancer, "grafana.${var.domain}" = module.monitoring.grafana_balancer }
}

output "recordings_bucket" {
  description = "Where recordings go; null: nowhere."
  value       = module.sfu.recordings_bucket
}

output "state" {
  description = "What another region needs to join this one: its variable `home`."
  value       = local.state
}

output "network" {
  description = "What peering of this region's network needs."
  value       = { vpc_id = module.network.vpc_id, cidr = module.network.cidr, route_tables = module.network.route_tables, region = local.region }
}

output "zone_id" {
  description = "The deployment's private zone; null where the state is not."
  value       = one(module.state[*].zone_id)
}
