# Prometheus, which finds edges and nodes by itself, and Grafana with the project's dashboards: one machine for each region. Calls do not depend on it.

data "aws_region" "current" {}

data "aws_ssm_parameter" "debian" {
  name = "/aws/service/debian/release/13/latest/${var.architecture}"
}

locals {
  deploy = "${path.module}/../../../deploy"
  ami    = coalesce(var.ami, nonsensitive(data.aws_ssm_parameter.debian.value))
  alerts = var.alert_topic_arn != null

  # Rules and dashboards are the same that compose.yaml uses.
  files = merge(
    { for name in ["recording.yml", "alerts.yml"] : name => "${local.deploy}/prometheus/${name}" },
    { for name in fileset("${local.deploy}/grafana/dashboards", "*.json") : "dashboards/${name}" => "${local.deploy}/grafana/dashboards/${name}" },
  )

  prometheus = merge(
    {
      global     = { scrape_interval = "15s", scrape_timeout = "10s", evaluation_interval = "15s", external_labels = { deployment = var.name, region = var.region } }
      rule_files = ["/var/lib/sluice-monitor/files/recording.yml", "/var/lib/sluice-monitor/files/alerts.yml"]
      scrape_configs = [
        {
          job_name        = "edge"
          sample_limit    = 20000
          file_sd_configs = [{ files = ["/var/lib/sluice-monitor/targets/edges.json"] }]
        },
        {
          job_name     = "sfu"
          sample_limit = 20000
          ec2_sd_configs = [{
            region = data.aws_region.current.region
            port   = 9091
            filters = [
              { name = "tag:SluiceRole", values = ["node"] },
              { name = "tag:aws:autoscaling:groupName", values = ["${var.name}-node"] },
              { name = "instance-state-name", values = ["running"] },
            ]
          }]
        },
        {
          job_name = "etcd"
          ec2_sd_configs = [{
            region = data.aws_region.current.region
            port   = 2381
            filters = [
              { name = "tag:SluiceRole", values = ["etcd"] },
              { name = "tag:Name", values = ["${var.name}-etcd-*"] },
            ]
          }]
        },
        { job_name = "prometheus", static_configs = [{ targets = ["127.0.0.1:9090"] }] },
      ]
    },
    local.alerts ? { alerting = { alertmanagers = [{ static_configs = [{ targets = ["127.0.0.1:9093"] }] }] } } : {},
  )

  alertmanager = {
    route = { receiver = "topic", group_by = ["alertname", "severity"], group_wait = "30s", group_interval = "5m", repeat_interval = "4h" }
    receivers = [{
      name = "topic"
      sns_configs = [{
        topic_arn = var.alert_topic_arn
        sigv4     = { region = data.aws_region.current.region }
        subject   = "{{ .Status }}: {{ .CommonLabels.alertname }} ({{ .CommonLabels.severity }}, ${var.name})"
      }]
    }]
  }
}

resource "aws_s3_bucket" "files" {
  #checkov:skip=CKV_AWS_18:Rules and dashboards are no secret.
  #checkov:skip=CKV_AWS_21:They are in the repository.
  #checkov:skip=CKV_AWS_144:Each region has its own.
  #checkov:skip=CKV_AWS_145:Encrypted with S3's own key.
  #checkov:skip=CKV2_AWS_61:There is one version of each file.
  #checkov:skip=CKV2_AWS_62:The machine looks by itself.
  bucket_prefix = "${var.name}-monitor-"
  force_destroy = true
}

resource "aws_s3_bucket_public_access_block" "files" {
  bucket                  = aws_s3_bucket.files.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_object" "files" {
  #checkov:skip=CKV_AWS_186:Encrypted with S3's own key.
  for_each = local.files

  bucket                 = aws_s3_bucket.files.id
  key                    = each.key
  source                 = each.value
  source_hash            = filemd5(each.value)
  server_side_encryption = "AES256"
}

resource "aws_secretsmanager_secret" "grafana" {
  #checkov:skip=CKV_AWS_149:Encrypted with the account's own key for secrets.
  #checkov:skip=CKV2_AWS_57:It is rotated by a variable.
  name_prefix             = "${var.name}-grafana-"
  description             = "Sluice: Grafana's password, for the user admin"
  recovery_window_in_days = 0
}

ephemeral "aws_secretsmanager_random_password" "grafana" {
  password_length     = 40
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret_version" "grafana" {
  secret_id                = aws_secretsmanager_secret.grafana.id
  secret_string_wo         = ephemeral.aws_secretsmanager_random_password.grafana.random_password
  secret_string_wo_version = var.grafana_generation
}

module "machine" {
  source = "../machine"

  packages = concat(["awscli", "curl", "e2fsprogs", "jq", "podman", "prometheus"], local.alerts ? ["prometheus-alertmanager"] : [])
  held     = concat(["prometheus.service"], local.alerts ? ["prometheus-alertmanager.service"] : [])

  environment = {
    AWS_REGION            = data.aws_region.current.region
    SLUICE_BUCKET         = aws_s3_bucket.files.bucket
    SLUICE_CLUSTER        = var.cluster
    SLUICE_SERVICE        = var.service
    SLUICE_VOLUME         = aws_ebs_volume.metrics.id
    SLUICE_GRAFANA_SECRET = aws_secretsmanager_secret.grafana.arn
    SLUICE_GRAFANA_IMAGE  = var.grafana_image
  }

  scripts = { for name in fileset("${path.module}/files", "*") : name => file("${path.module}/files/${name}") }

  files = merge(
    {
      "/etc/sluice/prometheus.yml" = yamlencode(local.prometheus)

      "/etc/sluice/grafana/datasources/prometheus.yaml" = yamlencode({
        apiVersion = 1
        datasources = [{
          name      = "Prometheus"
          uid       = "prometheus"
          type      = "prometheus"
          access    = "proxy"
          url       = "http://127.0.0.1:9090"
          isDefault = true
          editable  = false
          jsonData  = { timeInterval = "15s", httpMethod = "POST" }
        }]
      })

      "/etc/sluice/grafana/dashboards/sluice.yaml" = file("${local.deploy}/grafana/provisioning/dashboards/sluice.yaml")
    },
    local.alerts ? { "/etc/sluice/alertmanager.yml" = yamlencode(local.alertmanager) } : {},
  )

  units = merge({
    "sluice-prometheus.service" = <<-EOT
      [Unit]
      Description=Prometheus
      Wants=network-online.target
      After=network-online.target
      StartLimitIntervalSec=0

      [Service]
      User=prometheus
      ExecStartPre=+/usr/local/lib/sluice/volume /var/lib/prometheus prometheus
      ExecStartPre=+/usr/local/lib/sluice/monitor-files
      ExecStart=/usr/bin/prometheus --config.file=/etc/sluice/prometheus.yml --storage.tsdb.path=/var/lib/prometheus/tsdb --storage.tsdb.retention.time=${var.retention_days}d --storage.tsdb.retention.size=${floor(var.disk_gib * 0.85)}GB --web.listen-address=127.0.0.1:9090
      ExecReload=/bin/kill -HUP $MAINPID
      TimeoutStartSec=infinity
      Restart=always
      RestartSec=5

      [Install]
      WantedBy=multi-user.target
    EOT

    "sluice-grafana.service" = <<-EOT
      [Unit]
      Description=Grafana
      Wants=network-online.target
      After=network-online.target sluice-prometheus.service
      StartLimitIntervalSec=0

      [Service]
      EnvironmentFile=/etc/sluice/environment
      ExecStartPre=/usr/local/lib/sluice/image $${SLUICE_GRAFANA_IMAGE}
      ExecStartPre=/usr/local/lib/sluice/grafana-password
      ExecStart=/usr/bin/podman run --rm --replace --name sluice-grafana --network host --read-only --cap-drop all --security-opt no-new-privileges --tmpfs /tmp --tmpfs /var/lib/grafana:uid=472 --log-driver passthrough --env GF_SECURITY_ADMIN_PASSWORD__FILE=/run/grafana/password --env GF_ANALYTICS_REPORTING_ENABLED=false --env GF_ANALYTICS_CHECK_FOR_UPDATES=false --env GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES=false --env GF_SECURITY_DISABLE_GRAVATAR=true --env GF_USERS_ALLOW_SIGN_UP=false --env GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH=/etc/grafana/dashboards/fleet.json --volume /etc/sluice/grafana:/etc/grafana/provisioning:ro --volume /var/lib/sluice-monitor/files/dashboards:/etc/grafana/dashboards:ro --volume /run/sluice-grafana:/run/grafana:ro $${SLUICE_GRAFANA_IMAGE}
      KillMode=mixed
      TimeoutStartSec=infinity
      Restart=always
      RestartSec=5

      [Install]
      WantedBy=multi-user.target
    EOT

    "sluice-monitor-files.service" = <<-EOT
      [Unit]
      Description=Fetch rules and dashboards

      [Service]
      Type=oneshot
      ExecStart=/usr/local/lib/sluice/monitor-files
      TimeoutStartSec=60
    EOT

    "sluice-monitor-files.timer" = <<-EOT
      [Unit]
      Description=Fetch rules and dashboards, every five minutes

      [Timer]
      OnActiveSec=300
      OnUnitActiveSec=300

      [Install]
      WantedBy=timers.target
    EOT

    "sluice-edges.service" = <<-EOT
      [Unit]
      Description=Look where the edges are

      [Service]
      Type=oneshot
      ExecStart=/usr/local/lib/sluice/edges
      TimeoutStartSec=60
    EOT

    "sluice-edges.timer" = <<-EOT
      [Unit]
      Description=Look where the edges are, every half minute

      [Timer]
      OnActiveSec=0
      OnUnitActiveSec=30
      AccuracySec=1s

      [Install]
      WantedBy=timers.target
    EOT
    }, local.alerts ? {
    "sluice-alertmanager.service" = <<-EOT
      [Unit]
      Description=Alertmanager
      Wants=network-online.target
      After=network-online.target

      [Service]
      User=prometheus
      EnvironmentFile=/etc/sluice/environment
      StateDirectory=sluice-alertmanager
      ExecStart=/usr/bin/prometheus-alertmanager --config.file=/etc/sluice/alertmanager.yml --storage.path=/var/lib/sluice-alertmanager --web.listen-address=127.0.0.1:9093 --cluster.listen-address=
      Restart=always
      RestartSec=5

      [Install]
      WantedBy=multi-user.target
    EOT
  } : {})

  start = concat(["sluice-prometheus.service", "sluice-grafana.service", "sluice-monitor-files.timer", "sluice-edges.timer"], local.alerts ? ["sluice-alertmanager.service"] : [])
}

resource "aws_ebs_volume" "metrics" {
  #checkov:skip=CKV_AWS_189:Encrypted with the account's own key for volumes.
  #checkov:skip=CKV2_AWS_9:Metrics that are lost are missed by nobody after a while.
  availability_zone = var.zone
  type              = "gp3"
  size              = var.disk_gib
  encrypted         = true

  tags = { Name = "${var.name}-monitor" }
}

resource "aws_volume_attachment" "metrics" {
  device_name                    = "/dev/sdf"
  volume_id                      = aws_ebs_volume.metrics.id
  instance_id                    = aws_instance.this.id
  stop_instance_before_detaching = true
}

resource "aws_instance" "this" {
  #checkov:skip=CKV_AWS_135:Instances of these types are optimized for EBS by themselves.
  ami                         = local.ami
  instance_type               = var.instance_type
  subnet_id                   = var.private_subnets[0]
  vpc_security_group_ids      = [var.groups.monitor]
  iam_instance_profile        = aws_iam_instance_profile.this.name
  user_data_base64            = module.machine.user_data
  user_data_replace_on_change = true
  monitoring                  = true
  ebs_optimized               = true

  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = 20
    encrypted   = true
  }

  tags = { Name = "${var.name}-monitor", SluiceRole = "monitor" }

  lifecycle {
    ignore_changes = [ami]
  }

  depends_on = [aws_iam_role_policy.this, aws_s3_object.files]
}

resource "aws_iam_role" "this" {
  name_prefix = "${var.name}-monitor-"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "ec2.amazonaws.com" }
    }]
  })
}

resource "aws_iam_instance_profile" "this" {
  name_prefix = "${var.name}-monitor-"
  role        = aws_iam_role.this.name
}

data "aws_partition" "current" {}

data "aws_caller_identity" "current" {}

resource "aws_iam_role_policy" "this" {
  name = "monitor"
  role = aws_iam_role.this.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          # Neither can be narrowed.
          Sid      = "FindMachines"
          Effect   = "Allow"
          Action   = ["ec2:DescribeInstances", "ec2:DescribeAvailabilityZones"]
          Resource = "*"
        },
        {
          Sid       = "FindEdges"
          Effect    = "Allow"
          Action    = ["ecs:ListTasks", "ecs:DescribeTasks"]
          Resource  = "*"
          Condition = { ArnEquals = { "ecs:cluster" = "arn:${data.aws_partition.current.partition}:ecs:${data.aws_region.current.region}:${data.aws_caller_identity.current.account_id}:cluster/${var.cluster}" } }
        },
        {
          Sid      = "Password"
          Effect   = "Allow"
          Action   = "secretsmanager:GetSecretValue"
          Resource = aws_secretsmanager_secret.grafana.arn
        },
        {
          Sid      = "Files"
          Effect   = "Allow"
          Action   = ["s3:GetObject", "s3:ListBucket"]
          Resource = [aws_s3_bucket.files.arn, "${aws_s3_bucket.files.arn}/*"]
        },
        {
          Sid      = "RegistryToken"
          Effect   = "Allow"
          Action   = "ecr:GetAuthorizationToken"
          Resource = "*"
        },
        {
          Sid      = "Images"
          Effect   = "Allow"
          Action   = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
          Resource = "arn:${data.aws_partition.current.partition}:ecr:*:${data.aws_caller_identity.current.account_id}:repository/*"
        },
      ],
      [for topic in var.alert_topic_arn[*] : { Sid = "Alerts", Effect = "Allow", Action = "sns:Publish", Resource = topic }],
    )
  })
}
