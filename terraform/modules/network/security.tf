# Who may speak with whom, all of it in one place. A rule is one of `local.rules`; each is there twice, as what goes out and what comes in, and
# nothing else passes but answers.

locals {
  groups = merge(
    {
      balancer = "clients' connections to edges"
      edge     = "edges: signalling"
      node     = "SFU nodes: media"
      monitor  = "Prometheus and Grafana"
      grafana  = "people's connections to Grafana"
    },
    var.is_home ? {
      redis = "rooms and sessions"
      etcd  = "which nodes and edges live"
      kafka = "logs and events"
    } : {},
  )

  # Of the Internet, by family.
  everywhere = { ipv4 = "0.0.0.0/0", ipv6 = "::/0" }
  web        = { protocol = "tcp", first = 443, last = 443 }
  media      = { protocol = "udp", first = var.media_ports.first, last = var.media_ports.first + var.media_ports.count - 1 }
  clients    = { for network in var.clients : network => network }
  people     = { for network in var.grafana_clients : network => network }

  # Within this VPC: from a group to another.
  inside = merge(
    {
      "balancer to edge"        = { from = "balancer", to = "edge", protocol = "tcp", first = 8080, last = 8080 }
      "balancer to edge health" = { from = "balancer", to = "edge", protocol = "tcp", first = 9080, last = 9080 }
      "edge to node"            = { from = "edge", to = "node", protocol = "tcp", first = 7000, last = 7000 }
      "monitor to edge"         = { from = "monitor", to = "edge", protocol = "tcp", first = 9080, last = 9080 }
      "monitor to node"         = { from = "monitor", to = "node", protocol = "tcp", first = 9091, last = 9091 }
      "grafana to monitor"      = { from = "grafana", to = "monitor", protocol = "tcp", first = 3000, last = 3000 }
    },
    var.is_home ? {
      "edge to redis"   = { from = "edge", to = "redis", protocol = "tcp", first = 6379, last = 6379 }
      "edge to etcd"    = { from = "edge", to = "etcd", protocol = "tcp", first = 2379, last = 2379 }
      "node to etcd"    = { from = "node", to = "etcd", protocol = "tcp", first = 2379, last = 2379 }
      "etcd to etcd"    = { from = "etcd", to = "etcd", protocol = "tcp", first = 2379, last = 2380 }
      "monitor to etcd" = { from = "monitor", to = "etcd", protocol = "tcp", first = 2381, last = 2381 }
    } : {},
    var.is_home && var.kafka_port != null ? {
      "edge to kafka" = { from = "edge", to = "kafka", protocol = "tcp", first = var.kafka_port, last = var.kafka_port }
      "node to kafka" = { from = "node", to = "kafka", protocol = "tcp", first = var.kafka_port, last = var.kafka_port }
    } : {},
  )

  # From elsewhere. Other regions are let in by their networks: groups end with a VPC.
  arriving = merge(
    { for name, network in local.clients : "clients to balancer, ${name}" => merge(local.web, { to = "balancer", network = network }) },
    { for name, network in local.clients : "media to node, ${name}" => merge(local.media, { to = "node", network = network }) },
    { for name, network in local.people : "people to grafana, ${name}" => merge(local.web, { to = "grafana", network = network }) },
    { for region, network in var.peers : "edges of ${region} to node" => { to = "node", network = network, protocol = "tcp", first = 7000, last = 7000 } },
    var.is_home ? merge(
      { for region, network in var.peers : "edges of ${region} to redis" => { to = "redis", network = network, protocol = "tcp", first = 6379, last = 6379 } },
      { for region, network in var.peers : "${region} to etcd" => { to = "etcd", network = network, protocol = "tcp", first = 2379, last = 2379 } },
    ) : {},
    var.is_home && var.kafka_port != null ? {
      for region, network in var.peers : "${region} to kafka" => { to = "kafka", network = network, protocol = "tcp", first = var.kafka_port, last = var.kafka_port }
    } : {},
  )

  # To elsewhere. By 443 go images, secrets, keys of tokens, recordings, and Debian's packages.
  leaving = merge(
    { for pair in setproduct(["edge", "node", "monitor"], keys(local.everywhere)) : "${pair[0]} to the web, ${pair[1]}" => merge(local.web, { from = pair[0], network = local.everywhere[pair[1]] }) },
    var.is_home ? { for family, network in local.everywhere : "etcd to the web, ${family}" => merge(local.web, { from = "etcd", network = network }) } : {},
    { for pair in setproduct(var.is_home ? ["node", "monitor", "etcd"] : ["node", "monitor"], keys(local.everywhere)) : "${pair[0]} to packages, ${pair[1]}" => { from = pair[0], network = local.everywhere[pair[1]], protocol = "tcp", first = 80, last = 80 } },
    # A client's port may be any.
    { for name, network in local.clients : "media from node, ${name}" => { from = "node", network = network, protocol = "udp", first = 1024, last = 65535 } },
    { for region, network in var.peers : "edge to nodes of ${region}" => { from = "edge", network = network, protocol = "tcp", first = 7000, last = 7000 } },
    var.home_cidr == null ? {} : merge(
      { "edge to redis at home" = { from = "edge", network = var.home_cidr, protocol = "tcp", first = 6379, last = 6379 } },
      { for from in ["edge", "node"] : "${from} to etcd at home" => { from = from, network = var.home_cidr, protocol = "tcp", first = 2379, last = 2379 } },
      var.kafka_port == null ? {} : { for from in ["edge", "node"] : "${from} to kafka at home" => { from = from, network = var.home_cidr, protocol = "tcp", first = var.kafka_port, last = var.kafka_port } },
    ),
  )
}

resource "aws_security_group" "this" {
  #checkov:skip=CKV2_AWS_5:Other modules use them.
  for_each = local.groups

  name        = "${var.name}-${each.key}"
  description = each.value
  vpc_id      = aws_vpc.this.id

  tags = { Name = "${var.name}-${each.key}" }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "inside" {
  for_each = local.inside

  description                  = each.key
  security_group_id            = aws_security_group.this[each.value.to].id
  referenced_security_group_id = aws_security_group.this[each.value.from].id
  ip_protocol                  = each.value.protocol
  from_port                    = each.value.first
  to_port                      = each.value.last
}

resource "aws_vpc_security_group_egress_rule" "inside" {
  for_each = local.inside

  description                  = each.key
  security_group_id            = aws_security_group.this[each.value.from].id
  referenced_security_group_id = aws_security_group.this[each.value.to].id
  ip_protocol                  = each.value.protocol
  from_port                    = each.value.first
  to_port                      = each.value.last
}

resource "aws_vpc_security_group_ingress_rule" "arriving" {
  for_each = local.arriving

  description       = each.key
  security_group_id = aws_security_group.this[each.value.to].id
  cidr_ipv4         = strcontains(each.value.network, ":") ? null : each.value.network
  cidr_ipv6         = strcontains(each.value.network, ":") ? each.value.network : null
  ip_protocol       = each.value.protocol
  from_port         = each.value.first
  to_port           = each.value.last
}

resource "aws_vpc_security_group_egress_rule" "leaving" {
  for_each = local.leaving

  description       = each.key
  security_group_id = aws_security_group.this[each.value.from].id
  cidr_ipv4         = strcontains(each.value.network, ":") ? null : each.value.network
  cidr_ipv6         = strcontains(each.value.network, ":") ? each.value.network : null
  ip_protocol       = each.value.protocol
  from_port         = each.value.first
  to_port           = each.value.last
}
