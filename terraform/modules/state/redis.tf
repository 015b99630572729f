# Redis, in two zones: the second takes over when the first fails. Rooms heal by themselves from what a failover loses.

resource "aws_elasticache_subnet_group" "this" {
  name       = "${var.name}-redis"
  subnet_ids = var.subnets
}

resource "aws_elasticache_parameter_group" "this" {
  name   = "${var.name}-redis7"
  family = "redis7"

  # Nothing of it may be dropped to make room.
  parameter {
    name  = "maxmemory-policy"
    value = "noeviction"
  }
}

resource "aws_elasticache_replication_group" "this" {
  #checkov:skip=CKV_AWS_31:It has a password (auth_token_wo), which is not kept in Terraform's state; the scanner knows the other kind alone.
  #checkov:skip=CKV_AWS_191:Encrypted with AWS' own key.
  replication_group_id = "${var.name}-redis"
  description          = "Sluice: rooms and sessions"
  engine               = "redis"
  engine_version       = "7.1"
  node_type            = var.redis_node_type
  port                 = 6379
  parameter_group_name = aws_elasticache_parameter_group.this.name
  subnet_group_name    = aws_elasticache_subnet_group.this.name
  security_group_ids   = [var.groups.redis]

  num_cache_clusters         = 2
  automatic_failover_enabled = true
  multi_az_enabled           = true

  at_rest_encryption_enabled = true
  transit_encryption_enabled = true
  transit_encryption_mode    = "required"
  auth_token_wo              = ephemeral.aws_secretsmanager_secret_version.token.secret_string
  auth_token_wo_version      = var.generations.redis
  # The old one is good, too, until edges have the new one: the one after takes it away.
  auth_token_update_strategy = "ROTATE"

  maintenance_window         = "sun:03:00-sun:04:00"
  snapshot_retention_limit   = 0
  auto_minor_version_upgrade = true
  apply_immediately          = true
}
