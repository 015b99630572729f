# What browsers reach: TLS ends here, and each connection is passed on with a header that says whose it is (PROXY protocol, version 2).

resource "aws_lb" "edge" {
  #checkov:skip=CKV_AWS_91:A connection's beginning and end are in the edges' logs.
  #checkov:skip=CKV_AWS_150:`terraform destroy` is to leave nothing.
  #checkov:skip=CKV2_AWS_28:A firewall for web applications looks at requests; there is one at the beginning of each connection, whose token the edge checks.
  name               = "${var.name}-edge"
  load_balancer_type = "network"
  internal           = false
  ip_address_type    = "dualstack"
  subnets            = var.public_subnets
  security_groups    = [var.groups.balancer]
  # An edge that is alone in its zone serves those of the others, too.
  enable_cross_zone_load_balancing = true
}

resource "aws_lb_target_group" "edge" {
  #checkov:skip=CKV_AWS_378:Between the balancer and edges, within the VPC, there is no TLS.
  name_prefix = "edge-"
  vpc_id      = var.vpc_id
  target_type = "ip"
  protocol    = "TCP"
  port        = 8080

  proxy_protocol_v2  = true
  preserve_client_ip = false

  # An edge that ends is given nobody new from now on, and is told to end after this; it sends its clients away itself, so that no connection of
  # theirs is cut here.
  deregistration_delay   = 15
  connection_termination = false

  target_health_state {
    enable_unhealthy_connection_termination = false
  }

  health_check {
    protocol            = "HTTP"
    port                = "9080"
    path                = "/readyz"
    matcher             = "200"
    interval            = 10
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }

  lifecycle {
    create_before_destroy = true
  }
}

# A connection on which nothing is sent for 350 s is dropped; edges ping every 20 s.
resource "aws_lb_listener" "edge" {
  load_balancer_arn = aws_lb.edge.arn
  port              = 443
  protocol          = "TLS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = local.certificate_arn
  # Edges speak HTTP/1.1 alone.
  alpn_policy = "None"

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.edge.arn
  }
}

locals {
  makes_certificate = var.certificate_arn == null
  certificate_arn   = local.makes_certificate ? aws_acm_certificate_validation.this[0].certificate_arn : var.certificate_arn
}

# For the service, and for Grafana beside it.
resource "aws_acm_certificate" "this" {
  count = local.makes_certificate ? 1 : 0

  domain_name               = var.domain
  subject_alternative_names = var.domain == null ? [] : ["grafana.${var.domain}"]
  validation_method         = "DNS"

  lifecycle {
    create_before_destroy = true

    precondition {
      condition     = var.domain != null && var.zone_id != null
      error_message = "A certificate is made only for a domain in a zone of Route 53: give domain and zone_id, or certificate_arn."
    }
  }
}

locals {
  # Which records prove who owns the names is known only when the certificate is there; for which names, before.
  proven = local.makes_certificate && var.domain != null ? toset([var.domain, "grafana.${var.domain}"]) : toset([])
  proofs = { for option in flatten(aws_acm_certificate.this[*].domain_validation_options) : option.domain_name => option }
}

resource "aws_route53_record" "validation" {
  for_each = local.proven

  zone_id         = var.zone_id
  name            = local.proofs[each.key].resource_record_name
  type            = local.proofs[each.key].resource_record_type
  records         = [local.proofs[each.key].resource_record_value]
  ttl             = 300
  allow_overwrite = true
}

resource "aws_acm_certificate_validation" "this" {
  count = local.makes_certificate ? 1 : 0

  certificate_arn         = aws_acm_certificate.this[0].arn
  validation_record_fqdns = [for record in aws_route53_record.validation : record.fqdn]
}

resource "aws_route53_record" "edge" {
  #checkov:skip=CKV2_AWS_23:It points at the load balancer.
  for_each = var.domain != null && var.zone_id != null ? toset(["A", "AAAA"]) : toset([])

  zone_id = var.zone_id
  name    = var.domain
  type    = each.key

  alias {
    name                   = aws_lb.edge.dns_name
    zone_id                = aws_lb.edge.zone_id
    evaluate_target_health = true
  }
}
