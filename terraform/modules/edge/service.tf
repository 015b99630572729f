# The edges: containers that nobody has a machine for.

data "aws_region" "current" {}

locals {
  # Clients come in on `listen` through the load balancer; it alone, and Prometheus, reach `admin_listen`.
  settings = merge(
    {
      id              = "auto"
      region          = var.region
      listen          = "0.0.0.0:8080"
      admin_listen    = "0.0.0.0:9080"
      trusted_proxies = var.public_cidrs
      etcd            = { endpoints = var.etcd_endpoints }
      grpc            = { tls = { server_name = var.node_server_name } }
      drain           = { spread = "${var.drain.spread}s", timeout = "${var.drain.timeout}s" }
      log             = { format = "json" }
    },
    var.kafka == null ? {} : {
      kafka = {
        brokers             = var.kafka.brokers
        "security.protocol" = "sasl_ssl"
        "sasl.mechanism"    = "SCRAM-SHA-512"
        "sasl.username"     = var.kafka.username
      }
    },
    var.settings,
  )

  # A container has no file of settings but this; secrets join it as variables of their own.
  environment = merge(
    { for key, value in local.settings : "SLUICE_${upper(key)}" => can(tostring(value)) ? tostring(value) : jsonencode(value) },
    # Of no other meaning than that tasks with another one are others.
    { REVISION = var.revision },
  )

  secrets = merge(
    {
      SLUICE_AUTH__HS256_SECRET = var.secrets.auth
      SLUICE_SESSION__SECRET    = var.secrets.session
      SLUICE_REDIS__URL         = var.secrets.redis
      SLUICE_ETCD__TLS__CA      = "${var.secrets.edge}:etcd_ca::"
      SLUICE_ETCD__TLS__CERT    = "${var.secrets.edge}:cert::"
      SLUICE_ETCD__TLS__KEY     = "${var.secrets.edge}:key::"
      SLUICE_GRPC__TLS__CA      = "${var.secrets.edge}:nodes_ca::"
      SLUICE_GRPC__TLS__CERT    = "${var.secrets.edge}:cert::"
      SLUICE_GRPC__TLS__KEY     = "${var.secrets.edge}:key::"
    },
    var.auth_has_previous ? { SLUICE_AUTH__HS256_PREVIOUS_SECRET = "${var.secrets.auth}::AWSPREVIOUS:" } : {},
    var.kafka == null ? {} : { SLUICE_KAFKA__SASL__PASSWORD = "${var.secrets.kafka}:password::" },
  )
}

resource "terraform_data" "nodes" {
  input = var.nodes
}

# ECS makes it by itself if it is not there, and then nobody would remove it.
resource "aws_cloudwatch_log_group" "insights" {
  #checkov:skip=CKV_AWS_158:Encrypted with CloudWatch's own key.
  #checkov:skip=CKV_AWS_338:Figures of its kind are metrics after some minutes.
  name              = "/aws/ecs/containerinsights/${var.name}/performance"
  retention_in_days = 1
}

resource "aws_cloudwatch_log_group" "edge" {
  #checkov:skip=CKV_AWS_158:Encrypted with CloudWatch's own key.
  #checkov:skip=CKV_AWS_338:As long as it is asked for.
  name              = "/${var.name}/edge"
  retention_in_days = var.log_days
}

resource "aws_ecs_cluster" "this" {
  name = var.name

  setting {
    name  = "containerInsights"
    value = "enabled"
  }

  depends_on = [aws_cloudwatch_log_group.insights]
}

resource "aws_ecs_cluster_capacity_providers" "this" {
  cluster_name       = aws_ecs_cluster.this.name
  capacity_providers = ["FARGATE"]
}

resource "aws_ecs_task_definition" "edge" {
  family                   = "${var.name}-edge"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.size.cpu
  memory                   = var.size.memory
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.task.arn

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.architecture == "arm64" ? "ARM64" : "X86_64"
  }

  container_definitions = jsonencode([{
    name      = "edge"
    image     = var.image
    essential = true
    user      = "10001:10001"
    # An empty file: all settings are variables.
    command                = ["--config", "/dev/null"]
    readonlyRootFilesystem = true
    linuxParameters        = { capabilities = { drop = ["ALL"] } }
    stopTimeout            = min(120, var.drain.spread + var.drain.timeout + 10)
    portMappings           = [{ containerPort = 8080, protocol = "tcp" }, { containerPort = 9080, protocol = "tcp" }]
    ulimits                = [{ name = "nofile", softLimit = 65535, hardLimit = 65535 }]
    environment            = [for name in sort(keys(local.environment)) : { name = name, value = local.environment[name] }]
    secrets                = [for name in sort(keys(local.secrets)) : { name = name, valueFrom = local.secrets[name] }]

    healthCheck = {
      command     = ["CMD", "/usr/bin/edge-signal", "--healthy", "--config", "/dev/null"]
      interval    = 10
      timeout     = 5
      retries     = 3
      startPeriod = 15
    }

    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.edge.name
        awslogs-region        = data.aws_region.current.region
        awslogs-stream-prefix = "edge"
        # An edge does not wait for CloudWatch; what does not fit is lost.
        mode            = "non-blocking"
        max-buffer-size = "25m"
      }
    }
  }])
}

resource "aws_ecs_service" "edge" {
  name                              = "edge"
  cluster                           = aws_ecs_cluster.this.id
  task_definition                   = aws_ecs_task_definition.edge.arn
  launch_type                       = "FARGATE"
  desired_count                     = var.count_range.min
  propagate_tags                    = "SERVICE"
  health_check_grace_period_seconds = 120
  availability_zone_rebalancing     = "ENABLED"
  enable_ecs_managed_tags           = true

  # New ones are there before old ones go.
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = var.private_subnets
    security_groups  = [var.groups.edge]
    assign_public_ip = false
  }

  load_balancer {
    target_group_arn = aws_lb_target_group.edge.arn
    container_name   = "edge"
    container_port   = 8080
  }

  lifecycle {
    # Scaling decides.
    ignore_changes = [desired_count]
  }

  depends_on = [aws_lb_listener.edge, aws_iam_role_policy.execution, terraform_data.nodes]
}

resource "aws_appautoscaling_target" "edge" {
  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = "service/${aws_ecs_cluster.this.name}/${aws_ecs_service.edge.name}"
  min_capacity       = var.count_range.min
  max_capacity       = var.count_range.max
}

resource "aws_appautoscaling_policy" "cpu" {
  name               = "cpu"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.edge.service_namespace
  scalable_dimension = aws_appautoscaling_target.edge.scalable_dimension
  resource_id        = aws_appautoscaling_target.edge.resource_id

  target_tracking_scaling_policy_configuration {
    target_value       = var.target.cpu
    scale_out_cooldown = 60
    # Each edge that goes sends all its clients to others.
    scale_in_cooldown = 900

    predefined_metric_specification {
      predefined_metric_type = "ECSServiceAverageCPUUtilization"
    }
  }
}

resource "aws_appautoscaling_policy" "connections" {
  name               = "connections"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.edge.service_namespace
  scalable_dimension = aws_appautoscaling_target.edge.scalable_dimension
  resource_id        = aws_appautoscaling_target.edge.resource_id

  target_tracking_scaling_policy_configuration {
    target_value       = var.target.connections
    scale_out_cooldown = 60
    scale_in_cooldown  = 900

    customized_metric_specification {
      metrics {
        id          = "each"
        label       = "Connections of each edge"
        expression  = "flows / FILL(edges, 1)"
        return_data = true
      }

      metrics {
        id          = "flows"
        return_data = false

        metric_stat {
          stat = "Average"

          metric {
            namespace   = "AWS/NetworkELB"
            metric_name = "ActiveFlowCount_TLS"

            dimensions {
              name  = "LoadBalancer"
              value = aws_lb.edge.arn_suffix
            }
          }
        }
      }

      metrics {
        id          = "edges"
        return_data = false

        metric_stat {
          stat = "Average"

          metric {
            namespace   = "ECS/ContainerInsights"
            metric_name = "RunningTaskCount"

            dimensions {
              name  = "ClusterName"
              value = aws_ecs_cluster.this.name
            }

            dimensions {
              name  = "ServiceName"
              value = aws_ecs_service.edge.name
            }
          }
        }
      }
    }
  }
}
