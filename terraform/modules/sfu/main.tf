# SFU nodes: instances with public addresses in an autoscaling group, which is scaled by the load that they measure.

data "aws_region" "current" {}

data "aws_partition" "current" {}

data "aws_caller_identity" "current" {}

data "aws_ssm_parameter" "debian" {
  name = "/aws/service/debian/release/13/latest/${var.architecture}"
}

locals {
  ami = coalesce(var.ami, nonsensitive(data.aws_ssm_parameter.debian.value))

  arn = "arn:${data.aws_partition.current.partition}"
}

resource "aws_launch_template" "node" {
  #checkov:skip=CKV_AWS_88:Clients send media to the nodes themselves.
  name_prefix            = "${var.name}-node-"
  image_id               = local.ami
  instance_type          = var.instance_types[0]
  user_data              = module.machine.user_data
  update_default_version = true

  iam_instance_profile {
    arn = aws_iam_instance_profile.node.arn
  }

  network_interfaces {
    device_index                = 0
    associate_public_ip_address = true
    ipv6_address_count          = 1
    security_groups             = [var.group]
    delete_on_termination       = true
  }

  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_type           = "gp3"
      volume_size           = 30
      encrypted             = true
      delete_on_termination = true
    }
  }

  monitoring {
    enabled = true
  }

  tag_specifications {
    resource_type = "instance"
    tags          = { Name = local.group, SluiceRole = "node", SluiceRegion = var.region }
  }

  tag_specifications {
    resource_type = "volume"
    tags          = { Name = local.group }
  }
}

resource "aws_autoscaling_group" "node" {
  name                      = local.group
  min_size                  = var.count_range.min
  max_size                  = var.count_range.max
  vpc_zone_identifier       = var.subnets
  health_check_type         = "EC2"
  health_check_grace_period = 120
  default_instance_warmup   = 120
  capacity_rebalance        = var.spot > 0
  # It is there when its first nodes are ready: what they wait for is made meanwhile.
  wait_for_capacity_timeout = "20m"
  enabled_metrics           = ["GroupDesiredCapacity", "GroupInServiceInstances", "GroupTerminatingInstances"]

  mixed_instances_policy {
    instances_distribution {
      on_demand_base_capacity                  = 1
      on_demand_percentage_above_base_capacity = 100 - var.spot
      spot_allocation_strategy                 = "price-capacity-optimized"
    }

    launch_template {
      launch_template_specification {
        launch_template_id = aws_launch_template.node.id
        version            = aws_launch_template.node.latest_version
      }

      dynamic "override" {
        for_each = var.instance_types

        content {
          instance_type = override.value
        }
      }
    }
  }

  # It counts when the node is ready. Said at its making, so that it holds for its first machines.
  initial_lifecycle_hook {
    name                 = "launching"
    lifecycle_transition = "autoscaling:EC2_INSTANCE_LAUNCHING"
    heartbeat_timeout    = 600
    default_result       = "ABANDON"
  }

  # A new image or new settings: a new machine is ready before an old one drains.
  instance_refresh {
    strategy = "Rolling"

    preferences {
      min_healthy_percentage = 100
      max_healthy_percentage = 134
      auto_rollback          = true
    }
  }

  tag {
    key                 = "Name"
    value               = local.group
    propagate_at_launch = true
  }

  timeouts {
    # Each of its machines drains first, and is given its hook's time for that.
    delete = "${30 + ceil(var.drain_timeout / 60) * 2}m"
  }

  lifecycle {
    # Scaling decides.
    ignore_changes = [desired_capacity]
  }

  depends_on = [aws_iam_role_policy.node]
}

# A machine goes when its streams have moved.
resource "aws_autoscaling_lifecycle_hook" "terminating" {
  name                   = "terminating"
  autoscaling_group_name = aws_autoscaling_group.node.name
  lifecycle_transition   = "autoscaling:EC2_INSTANCE_TERMINATING"
  heartbeat_timeout      = max(120, var.drain_timeout + 60)
  default_result         = "CONTINUE"
}

resource "aws_autoscaling_policy" "load" {
  name                   = "load"
  autoscaling_group_name = aws_autoscaling_group.node.name
  policy_type            = "TargetTrackingScaling"

  target_tracking_configuration {
    target_value = var.target_load

    customized_metric_specification {
      namespace   = "Sluice"
      metric_name = "NodeLoad"
      statistic   = "Average"

      metric_dimension {
        name  = "AutoScalingGroupName"
        value = aws_autoscaling_group.node.name
      }
    }
  }
}
