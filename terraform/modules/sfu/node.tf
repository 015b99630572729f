# What each node's machine is told: its settings, its units.

locals {
  tls = "/etc/sluice/tls"

  # Of what the node reads, all but what it takes from its machine (`node-facts`) and from secrets.
  node = merge(
    {
      region       = var.region
      admin_listen = "0.0.0.0:9091"
      grpc = {
        listen = "0.0.0.0:7000"
        tls    = { ca = "${local.tls}/edges_ca.pem", cert = "${local.tls}/cert.pem", key = "${local.tls}/key.pem" }
      }
      media = { ip = ["auto"], first_port = var.media_ports.first, shards = var.media_ports.count }
      etcd = {
        endpoints = var.etcd_endpoints
        tls       = { ca = "${local.tls}/etcd_ca.pem", cert = "${local.tls}/cert.pem", key = "${local.tls}/key.pem" }
      }
      drain = { timeout = "${var.drain_timeout}s" }
      log   = { format = "json" }
    },
    var.recordings.enabled ? {
      recording = {
        url       = "s3://${aws_s3_bucket.recordings[0].bucket}/recordings"
        spool_dir = "/var/lib/sluice-recordings"
        store     = { region = data.aws_region.current.region }
      }
    } : {},
    var.kafka == null ? {} : {
      kafka = {
        brokers             = var.kafka.brokers
        "security.protocol" = "sasl_ssl"
        "sasl.mechanism"    = "SCRAM-SHA-512"
        "sasl.username"     = var.kafka.username
        sasl                = { password_file = "/etc/sluice/kafka/password.pem" }
      }
    },
    var.settings,
  )

  # Where each of the node's secrets goes.
  places  = merge({ (local.tls) = var.tls_secret }, var.kafka == null ? {} : { "/etc/sluice/kafka" = var.kafka.secret })
  secrets = join("\n", [for place, secret in local.places : "ExecStartPre=/usr/local/lib/sluice/secret-wait ${secret} ${place} 10001"])

  group = "${var.name}-node"
}

module "machine" {
  source = "../machine"

  packages    = ["awscli", "curl", "jq", "podman"]
  environment = { AWS_REGION = data.aws_region.current.region, SLUICE_GROUP = local.group, SLUICE_IMAGE = var.image }
  scripts     = { for name in fileset("${path.module}/files", "*") : name => file("${path.module}/files/${name}") }

  files = {
    "/etc/sluice/node.yaml" = yamlencode(local.node)

    # Bursts of video fit in; what else listens on the machine takes no port of a shard.
    "/etc/sysctl.d/60-sluice.conf" = <<-EOT
      net.core.rmem_max = 4194304
      net.core.wmem_max = 4194304
      net.core.netdev_max_backlog = 10000
      net.ipv4.ip_local_reserved_ports = 7000,9091,${var.media_ports.first}-${var.media_ports.first + var.media_ports.count - 1}
    EOT
  }

  units = {
    "sluice-node.service" = <<-EOT
      [Unit]
      Description=Sluice SFU node
      Wants=network-online.target
      After=network-online.target
      StartLimitIntervalSec=0

      [Service]
      EnvironmentFile=/etc/sluice/environment
      ExecStartPre=/usr/local/lib/sluice/image $${SLUICE_IMAGE}
      ${local.secrets}
      ExecStartPre=/usr/local/lib/sluice/node-facts
      ExecStart=/usr/bin/podman run --rm --replace --name sluice-node --network host --read-only --cap-drop all --security-opt no-new-privileges --log-driver passthrough --env-file /run/sluice/node.env --volume /etc/sluice:/etc/sluice:ro --volume /var/lib/sluice-recordings:/var/lib/sluice-recordings $${SLUICE_IMAGE}
      # podman passes SIGTERM on, and ends with the node.
      KillMode=mixed
      TimeoutStartSec=infinity
      TimeoutStopSec=${var.drain_timeout + 60}
      Restart=always
      RestartSec=2
      # 64: the settings are wrong, which no restart changes.
      RestartPreventExitStatus=64
      OOMScoreAdjust=-500
      Nice=-5

      [Install]
      WantedBy=multi-user.target
    EOT

    "sluice-node-started.service" = <<-EOT
      [Unit]
      Description=Tell the autoscaling group that the node is ready
      After=sluice-node.service

      [Service]
      Type=oneshot
      RemainAfterExit=yes
      EnvironmentFile=/etc/sluice/environment
      ExecStart=/usr/local/lib/sluice/node-started
      TimeoutStartSec=infinity

      [Install]
      WantedBy=multi-user.target
    EOT

    "sluice-node-leaving.service" = <<-EOT
      [Unit]
      Description=Drain the node when its machine is taken away
      After=network-online.target

      [Service]
      EnvironmentFile=/etc/sluice/environment
      ExecStart=/usr/local/lib/sluice/node-leaving
      Restart=on-failure
      RestartSec=5

      [Install]
      WantedBy=multi-user.target
    EOT

    "sluice-node-load.service" = <<-EOT
      [Unit]
      Description=Tell CloudWatch how loaded the node is

      [Service]
      Type=oneshot
      EnvironmentFile=/etc/sluice/environment
      ExecStart=/usr/local/lib/sluice/node-load
      TimeoutStartSec=30
    EOT

    "sluice-node-load.timer" = <<-EOT
      [Unit]
      Description=Tell CloudWatch how loaded the node is, each minute

      [Timer]
      OnCalendar=minutely
      AccuracySec=1s

      [Install]
      WantedBy=timers.target
    EOT

    # The node reads its certificate again when it changes.
    "sluice-secrets.service" = <<-EOT
      [Unit]
      Description=Fetch the node's certificate, if it was renewed

      [Service]
      Type=oneshot
      EnvironmentFile=/etc/sluice/environment
      ExecStart=/usr/local/lib/sluice/secret ${var.tls_secret} ${local.tls} 10001
      SuccessExitStatus=3
      TimeoutStartSec=60
    EOT

    "sluice-secrets.timer" = <<-EOT
      [Unit]
      Description=Fetch the node's certificate, if it was renewed, each hour

      [Timer]
      OnCalendar=hourly
      RandomizedDelaySec=600

      [Install]
      WantedBy=timers.target
    EOT
  }

  start = ["sluice-node.service", "sluice-node-started.service", "sluice-node-leaving.service", "sluice-node-load.timer", "sluice-secrets.timer"]
}
