# People's way in to Grafana, if there is to be one: by TLS, from the networks that are named.

locals {
  open = length(var.grafana_clients) > 0 ? 1 : 0
}

resource "aws_lb" "grafana" {
  #checkov:skip=CKV_AWS_91:Grafana has its own log.
  #checkov:skip=CKV_AWS_150:`terraform destroy` is to leave nothing.
  #checkov:skip=CKV2_AWS_28:It is reached from named networks alone.
  count = local.open

  name                       = "${var.name}-grafana"
  load_balancer_type         = "application"
  internal                   = false
  ip_address_type            = "dualstack"
  subnets                    = var.public_subnets
  security_groups            = [var.groups.grafana]
  drop_invalid_header_fields = true
}

resource "aws_lb_target_group" "grafana" {
  #checkov:skip=CKV_AWS_378:Between the balancer and Grafana, within the VPC, there is no TLS.
  count = local.open

  name_prefix = "graf-"
  vpc_id      = var.vpc_id
  target_type = "instance"
  protocol    = "HTTP"
  port        = 3000

  health_check {
    path = "/api/health"
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_lb_target_group_attachment" "grafana" {
  count = local.open

  target_group_arn = aws_lb_target_group.grafana[0].arn
  target_id        = aws_instance.this.id
}

resource "aws_lb_listener" "grafana" {
  count = local.open

  load_balancer_arn = aws_lb.grafana[0].arn
  port              = 443
  protocol          = "HTTPS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = var.certificate_arn

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.grafana[0].arn
  }
}

resource "aws_route53_record" "grafana" {
  #checkov:skip=CKV2_AWS_23:It points at the load balancer.
  for_each = local.open == 1 && var.domain != null && var.zone_id != null ? toset(["A", "AAAA"]) : toset([])

  zone_id = var.zone_id
  name    = "grafana.${var.domain}"
  type    = each.key

  alias {
    name                   = aws_lb.grafana[0].dns_name
    zone_id                = aws_lb.grafana[0].zone_id
    evaluate_target_health = true
  }
}
