# Kafka by MSK, if it is to be made: two brokers in two zones, by TLS, with a user and its password.

locals {
  msk = var.kafka.mode == "msk" ? 1 : 0
}

resource "aws_kms_key" "kafka" {
  count = local.msk

  # MSK takes passwords only from secrets that have a key of their own.
  description             = "Sluice: Kafka's password"
  enable_key_rotation     = true
  deletion_window_in_days = 7

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "Account"
      Effect    = "Allow"
      Principal = { AWS = "${local.arn}:iam::${data.aws_caller_identity.current.account_id}:root" }
      Action    = "kms:*"
      Resource  = "*"
    }]
  })
}

resource "aws_secretsmanager_secret" "msk" {
  #checkov:skip=CKV2_AWS_57:It is rotated by a variable (generations).
  count = local.msk

  # MSK takes only secrets whose names begin so.
  name_prefix             = "AmazonMSK_${var.name}-"
  description             = "Sluice: Kafka's user and password, for the brokers"
  kms_key_id              = aws_kms_key.kafka[0].arn
  recovery_window_in_days = 0
}

resource "aws_secretsmanager_secret_version" "kafka" {
  count = local.msk

  secret_id                = aws_secretsmanager_secret.this["kafka"].id
  secret_string_wo         = jsonencode({ password = ephemeral.aws_secretsmanager_random_password.this["kafka"].random_password })
  secret_string_wo_version = var.generations.kafka
}

ephemeral "aws_secretsmanager_secret_version" "kafka" {
  count = local.msk

  secret_id  = aws_secretsmanager_secret_version.kafka[0].secret_id
  version_id = aws_secretsmanager_secret_version.kafka[0].version_id
}

resource "aws_secretsmanager_secret_version" "msk" {
  count = local.msk

  secret_id = aws_secretsmanager_secret.msk[0].id
  secret_string_wo = jsonencode({
    username = "sluice"
    password = jsondecode(ephemeral.aws_secretsmanager_secret_version.kafka[0].secret_string).password
  })
  secret_string_wo_version = var.generations.kafka
}

resource "aws_secretsmanager_secret_policy" "msk" {
  count = local.msk

  secret_arn = aws_secretsmanager_secret.msk[0].arn

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "Brokers"
      Effect    = "Allow"
      Principal = { Service = "kafka.amazonaws.com" }
      Action    = "secretsmanager:getSecretValue"
      Resource  = aws_secretsmanager_secret.msk[0].arn
      Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id } }
    }]
  })
}

resource "aws_msk_configuration" "this" {
  count = local.msk

  name           = var.name
  kafka_versions = ["3.8.x"]

  server_properties = <<-EOT
    auto.create.topics.enable = true
    default.replication.factor = 2
    min.insync.replicas = 1
    num.partitions = 12
    log.retention.hours = 72
  EOT
}

resource "aws_msk_cluster" "this" {
  #checkov:skip=CKV_AWS_80:Brokers' own logs would go to Kafka or cost more than they tell; their metrics say how they are.
  count = local.msk

  cluster_name           = var.name
  kafka_version          = "3.8.x"
  number_of_broker_nodes = 2

  broker_node_group_info {
    instance_type   = var.kafka.type
    client_subnets  = slice(var.subnets, 0, 2)
    security_groups = [var.groups.kafka]

    storage_info {
      ebs_storage_info {
        volume_size = var.kafka.disk_gib
      }
    }
  }

  client_authentication {
    unauthenticated = false

    sasl {
      scram = true
    }
  }

  encryption_info {
    encryption_at_rest_kms_key_arn = aws_kms_key.kafka[0].arn

    encryption_in_transit {
      client_broker = "TLS"
      in_cluster    = true
    }
  }

  configuration_info {
    arn      = aws_msk_configuration.this[0].arn
    revision = aws_msk_configuration.this[0].latest_revision
  }

  lifecycle {
    # It grows by itself, if an account lets it.
    ignore_changes = [broker_node_group_info[0].storage_info]
  }
}

resource "aws_msk_scram_secret_association" "this" {
  count = local.msk

  cluster_arn     = aws_msk_cluster.this[0].arn
  secret_arn_list = [aws_secretsmanager_secret.msk[0].arn]

  depends_on = [aws_secretsmanager_secret_version.msk, aws_secretsmanager_secret_policy.msk]
}
