# Secrets are in Secrets Manager. Their values are not in Terraform's state: random ones pass through it once, and certificates are made by a machine
# (`files/authority`).

locals {
  secrets = merge(
    {
      auth    = "what access tokens are checked with"
      session = "what sessions are signed with"
      redis   = "Redis' address with its password"
      token   = "Redis' password"
      edge    = "the edges' certificate, its key, and whom they believe"
      node    = "the nodes' certificate, its key, and whom they believe"
      etcd    = "etcd's certificate, its key, and whom it believes"
      ca      = "the keys that all certificates are signed with"
    },
    var.kafka.mode == "msk" ? { kafka = "Kafka's password" } : {},
  )

  # Those that are read in other regions, too.
  copied = ["auth", "session", "redis", "edge", "node", "kafka"]
}

resource "aws_secretsmanager_secret" "this" {
  #checkov:skip=CKV_AWS_149:Encrypted with the account's own key for secrets; who may read one is for its roles' policies.
  #checkov:skip=CKV2_AWS_57:They are rotated by a variable (generations), as edges and nodes have to follow.
  for_each = local.secrets

  name_prefix = "${var.name}-${each.key}-"
  description = "Sluice: ${each.value}"
  # A region that is taken down takes them with it.
  recovery_window_in_days        = 0
  force_overwrite_replica_secret = true

  dynamic "replica" {
    for_each = contains(local.copied, each.key) ? var.replicas : []

    content {
      region = replica.value
    }
  }
}

ephemeral "aws_secretsmanager_random_password" "this" {
  for_each = toset(["auth", "session", "token", "kafka"])

  # Letters and digits: 5.9 bits each. They stand in addresses, too.
  password_length     = 64
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret_version" "random" {
  for_each = { for name, generation in { auth = var.generations.auth, session = var.generations.session, token = var.generations.redis } : name => generation }

  secret_id                = aws_secretsmanager_secret.this[each.key].id
  secret_string_wo         = ephemeral.aws_secretsmanager_random_password.this[each.key].random_password
  secret_string_wo_version = each.value
}

# As it was kept, not as it was made: what is made is another one each time Terraform runs.
ephemeral "aws_secretsmanager_secret_version" "token" {
  secret_id  = aws_secretsmanager_secret_version.random["token"].secret_id
  version_id = aws_secretsmanager_secret_version.random["token"].version_id
}

resource "aws_secretsmanager_secret_version" "redis" {
  secret_id                = aws_secretsmanager_secret.this["redis"].id
  secret_string_wo         = "rediss://:${ephemeral.aws_secretsmanager_secret_version.token.secret_string}@${aws_elasticache_replication_group.this.primary_endpoint_address}:6379"
  secret_string_wo_version = var.generations.redis
}
