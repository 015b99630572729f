output "zone_id" {
  description = "The private zone, which networks of other regions have to be added to."
  value       = aws_route53_zone.this.zone_id
}

output "etcd_endpoints" {
  description = "Where etcd's members are."
  value       = local.endpoints
}

output "node_server_name" {
  description = "The name that nodes' certificates are for."
  value       = "nodes.${var.domain}"
}

output "secrets" {
  description = "ARNs of the secrets, in this region."
  value       = merge({ for name, secret in aws_secretsmanager_secret.this : name => secret.arn }, var.kafka.mode == "brokers" ? { kafka = var.kafka.secret_arn } : {})
}

output "auth_has_previous" {
  description = "Whether there is a secret of access tokens before the one in force."
  value       = var.generations.auth > 1
}

output "revision" {
  description = "Changes when edges have to be started anew because a secret of theirs has changed."
  value       = "${var.generations.auth}.${var.generations.session}.${var.generations.redis}.${var.generations.kafka}"

  # Not before it is there.
  depends_on = [aws_secretsmanager_secret_version.random, aws_secretsmanager_secret_version.redis, aws_secretsmanager_secret_version.kafka]
}

output "kafka_username" {
  description = "The user that Kafka knows edges and nodes as."
  value       = var.kafka.mode == "brokers" ? var.kafka.username : "sluice"
}

output "kafka_brokers" {
  description = "Brokers of Kafka; none: there is no Kafka."
  value = {
    none    = []
    brokers = var.kafka.brokers
    msk     = var.kafka.mode == "msk" ? split(",", aws_msk_cluster.this[0].bootstrap_brokers_sasl_scram) : []
  }[var.kafka.mode]
}
