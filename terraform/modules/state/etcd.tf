# Three members of etcd in three zones. A member's address and its data are things of their own, which a machine that takes its place gets.

locals {
  members = { for index in range(3) : "etcd-${index}" => index }
  names   = { for name, _ in local.members : name => "${name}.${var.domain}" }

  ami = coalesce(var.ami, nonsensitive(data.aws_ssm_parameter.debian.value))

  endpoints = [for name in values(local.names) : "https://${name}:2379"]
}

data "aws_ssm_parameter" "debian" {
  name = "/aws/service/debian/release/13/latest/${var.architecture}"
}

resource "aws_network_interface" "etcd" {
  for_each = local.members

  subnet_id = var.subnets[each.value]
  # Chosen, so that a member's address is known before it is there: AWS has the first four for itself.
  private_ips     = [cidrhost(var.cidrs[each.value], 10)]
  security_groups = [var.groups.etcd]

  tags = { Name = "${var.name}-${each.key}" }
}

resource "aws_route53_record" "etcd" {
  #checkov:skip=CKV2_AWS_23:It is the address of a network interface above.
  for_each = local.members

  zone_id = aws_route53_zone.this.zone_id
  name    = local.names[each.key]
  type    = "A"
  ttl     = 60
  records = [cidrhost(var.cidrs[each.value], 10)]
}

resource "aws_ebs_volume" "etcd" {
  #checkov:skip=CKV_AWS_189:Encrypted with the account's own key for volumes.
  #checkov:skip=CKV2_AWS_9:Snapshots of etcd itself go to S3 each hour.
  for_each = local.members

  availability_zone = var.zones[each.value]
  type              = "gp3"
  size              = 10
  encrypted         = true

  tags = { Name = "${var.name}-${each.key}" }
}

resource "aws_volume_attachment" "etcd" {
  for_each = local.members

  device_name = "/dev/sdf"
  volume_id   = aws_ebs_volume.etcd[each.key].id
  instance_id = aws_instance.etcd[each.key].id
  # In order: etcd writes nothing any more when its volume goes.
  stop_instance_before_detaching = true
}

module "machine" {
  source   = "../machine"
  for_each = local.members

  packages = ["awscli", "curl", "e2fsprogs", "etcd-client", "etcd-server", "jq", "openssl"]
  held     = ["etcd.service"]

  environment = {
    AWS_REGION              = data.aws_region.current.region
    SLUICE_NAME             = var.name
    SLUICE_DOMAIN           = var.domain
    SLUICE_MEMBER           = each.key
    SLUICE_VOLUME           = aws_ebs_volume.etcd[each.key].id
    SLUICE_BUCKET           = aws_s3_bucket.etcd.bucket
    SLUICE_CLIENT_URL       = "https://${local.names[each.key]}:2379"
    SLUICE_PEER_URL         = "https://${local.names[each.key]}:2380"
    SLUICE_CLUSTER          = join(",", [for name, host in local.names : "${name}=https://${host}:2380"])
    SLUICE_ENDPOINTS        = join(",", local.endpoints)
    SLUICE_OTHERS           = join(",", [for name, host in local.names : "https://${host}:2379" if name != each.key])
    SLUICE_FACTS            = aws_ssm_parameter.facts.name
    SLUICE_ETCD_NAMES       = join(",", [for host in values(local.names) : "DNS:${host}"])
    SLUICE_ETCD_SECRET      = aws_secretsmanager_secret.this["etcd"].arn
    SLUICE_EDGE_SECRET      = aws_secretsmanager_secret.this["edge"].arn
    SLUICE_NODE_SECRET      = aws_secretsmanager_secret.this["node"].arn
    SLUICE_AUTHORITY_SECRET = aws_secretsmanager_secret.this["ca"].arn
  }

  files   = {}
  scripts = { for name in fileset("${path.module}/files", "*") : name => file("${path.module}/files/${name}") }

  units = {
    "sluice-etcd.service" = <<-EOT
      [Unit]
      Description=etcd: who lives
      Wants=network-online.target
      After=network-online.target
      StartLimitIntervalSec=0

      [Service]
      Type=notify
      EnvironmentFile=/etc/sluice/environment
      ExecStartPre=/usr/local/lib/sluice/volume /var/lib/etcd etcd
      ExecStartPre=/usr/local/lib/sluice/secret-wait $${SLUICE_ETCD_SECRET} /etc/sluice/tls etcd
      ExecStart=/usr/local/lib/sluice/etcd-start
      NotifyAccess=all
      TimeoutStartSec=infinity
      Restart=always
      RestartSec=2
      LimitNOFILE=65536
      Nice=-5

      [Install]
      WantedBy=multi-user.target
    EOT

    "sluice-upkeep.service" = <<-EOT
      [Unit]
      Description=Keep certificates and what is known of regions as they should be

      [Service]
      Type=oneshot
      ExecStart=/usr/local/lib/sluice/authority
      ExecStart=-/usr/local/lib/sluice/regions
      TimeoutStartSec=300
      Restart=on-failure
      RestartSec=10
    EOT

    "sluice-upkeep.timer" = <<-EOT
      [Unit]
      Description=Keep certificates and what is known of regions as they should be, every five minutes

      [Timer]
      OnActiveSec=0
      OnUnitInactiveSec=300
      AccuracySec=1s

      [Install]
      WantedBy=timers.target
    EOT

    "sluice-snapshot.service" = <<-EOT
      [Unit]
      Description=Keep what etcd holds

      [Service]
      Type=oneshot
      ExecStart=/usr/local/lib/sluice/etcd-snapshot
      TimeoutStartSec=300
    EOT

    "sluice-snapshot.timer" = <<-EOT
      [Unit]
      Description=Keep what etcd holds, each hour

      [Timer]
      OnActiveSec=60
      OnUnitActiveSec=1h
      RandomizedDelaySec=30

      [Install]
      WantedBy=timers.target
    EOT

    # etcd reads its certificate again for each connection.
    "sluice-secrets.service" = <<-EOT
      [Unit]
      Description=Fetch etcd's certificate, if it was renewed

      [Service]
      Type=oneshot
      EnvironmentFile=/etc/sluice/environment
      ExecStart=/usr/local/lib/sluice/secret $${SLUICE_ETCD_SECRET} /etc/sluice/tls etcd
      SuccessExitStatus=3
      TimeoutStartSec=60
    EOT

    "sluice-secrets.timer" = <<-EOT
      [Unit]
      Description=Fetch etcd's certificate, if it was renewed, each hour

      [Timer]
      OnCalendar=hourly
      RandomizedDelaySec=600

      [Install]
      WantedBy=timers.target
    EOT
  }

  # One of them keeps the certificates.
  start = concat(each.value == 0 ? ["sluice-upkeep.timer"] : [], ["sluice-etcd.service", "sluice-snapshot.timer", "sluice-secrets.timer"])
}

resource "aws_instance" "etcd" {
  #checkov:skip=CKV_AWS_135:Instances of these types are optimized for EBS by themselves.
  for_each = local.members

  ami                  = local.ami
  instance_type        = var.etcd_instance_type
  iam_instance_profile = aws_iam_instance_profile.etcd.name
  user_data_base64     = module.machine[each.key].user_data
  # A member at a time, by hand: `terraform apply -replace='…aws_instance.etcd["etcd-0"]'`.
  user_data_replace_on_change = false
  monitoring                  = true
  ebs_optimized               = true

  primary_network_interface {
    network_interface_id = aws_network_interface.etcd[each.key].id
  }

  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = 10
    encrypted   = true
  }

  tags = { Name = "${var.name}-${each.key}", SluiceRole = "etcd" }

  lifecycle {
    # All three at once would be the end of what they hold.
    ignore_changes = [ami, user_data_base64]
  }

  depends_on = [aws_iam_role_policy.etcd]
}

# Snapshots, and that there was ever a cluster.
resource "aws_s3_bucket" "etcd" {
  #checkov:skip=CKV_AWS_18:Only etcd's own machines read and write it.
  #checkov:skip=CKV_AWS_144:Snapshots are for a cluster of this region.
  #checkov:skip=CKV_AWS_145:Encrypted with S3's own key.
  #checkov:skip=CKV2_AWS_62:Nobody waits for snapshots.
  bucket_prefix = "${var.name}-etcd-"
  force_destroy = true
}

resource "aws_s3_bucket_public_access_block" "etcd" {
  bucket                  = aws_s3_bucket.etcd.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "etcd" {
  bucket = aws_s3_bucket.etcd.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_versioning" "etcd" {
  bucket = aws_s3_bucket.etcd.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "etcd" {
  bucket = aws_s3_bucket.etcd.id

  rule {
    id     = "snapshots"
    status = "Enabled"

    filter {
      prefix = "snapshots/"
    }

    expiration {
      days = 14
    }

    noncurrent_version_expiration {
      noncurrent_days = 1
    }
  }

  rule {
    id     = "uploads"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }
  }

  depends_on = [aws_s3_bucket_versioning.etcd]
}

resource "aws_s3_bucket_policy" "etcd" {
  bucket = aws_s3_bucket.etcd.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "OnlyByTls"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [aws_s3_bucket.etcd.arn, "${aws_s3_bucket.etcd.arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })

  depends_on = [aws_s3_bucket_public_access_block.etcd]
}

resource "aws_iam_role" "etcd" {
  name_prefix = "${var.name}-etcd-"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "ec2.amazonaws.com" }
    }]
  })
}

resource "aws_iam_instance_profile" "etcd" {
  name_prefix = "${var.name}-etcd-"
  role        = aws_iam_role.etcd.name
}

resource "aws_iam_role_policy" "etcd" {
  name = "etcd"
  role = aws_iam_role.etcd.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "Certificates"
        Effect   = "Allow"
        Action   = ["secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue"]
        Resource = [for name in ["ca", "edge", "etcd", "node"] : aws_secretsmanager_secret.this[name].arn]
      },
      {
        Sid      = "Facts"
        Effect   = "Allow"
        Action   = "ssm:GetParameter"
        Resource = aws_ssm_parameter.facts.arn
      },
      {
        Sid      = "Snapshots"
        Effect   = "Allow"
        Action   = ["s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload"]
        Resource = "${aws_s3_bucket.etcd.arn}/*"
      },
      {
        Sid      = "SnapshotsThere"
        Effect   = "Allow"
        Action   = "s3:ListBucket"
        Resource = aws_s3_bucket.etcd.arn
      },
      {
        Sid    = "EdgesAnew"
        Effect = "Allow"
        Action = "ecs:UpdateService"
        Resource = [
          for edge in var.edges : "${local.arn}:ecs:${edge.region}:${data.aws_caller_identity.current.account_id}:service/${edge.cluster}/${edge.service}"
        ]
      },
    ]
  })
}
