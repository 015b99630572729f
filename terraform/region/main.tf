# A region of Sluice: its network, edges and SFU nodes, what watches them, and, unless another region is its home, the state.

data "aws_region" "current" {}

locals {
  region  = data.aws_region.current.region
  is_home = var.home == null
  # Alone, it has itself.
  regions = length(var.regions) > 0 ? var.regions : { (local.region) = { cidr = var.cidr, weight = 1, distances = {} } }
  others  = { for name, region in local.regions : name => region.cidr if name != local.region }
  domain  = "${var.name}.internal"

  media_ports = { first = var.nodes.first_port, count = var.nodes.shards }

  # Names, for what has to be known of edges before they are there.
  cluster = var.name
  service = "edge"

  state = local.is_home ? {
    region           = local.region
    etcd_endpoints   = module.state[0].etcd_endpoints
    node_server_name = module.state[0].node_server_name
    secrets          = module.state[0].secrets
    previous_auth    = module.state[0].auth_has_previous
    revision         = module.state[0].revision
    kafka            = var.kafka.mode == "none" ? null : { brokers = module.state[0].kafka_brokers, username = module.state[0].kafka_username, port = local.own_kafka_port }
  } : var.home

  # Of each secret there is a copy in each region, under the same name.
  secrets = { for name, arn in local.state.secrets : name => replace(arn, ":${local.state.region}:", ":${local.region}:") }

  # As it is said, not as it turns out: rules of security groups are made before brokers are.
  own_kafka_port = { none = null, msk = 9096, brokers = try(tonumber(split(":", var.kafka.brokers[0])[1]), null) }[var.kafka.mode]
  kafka_port     = local.is_home ? local.own_kafka_port : try(var.home.kafka.port, null)
}

check "own_network" {
  assert {
    condition     = try(local.regions[local.region].cidr, null) == var.cidr
    error_message = "regions must list ${local.region} with the network that cidr says (${var.cidr}): others let in nobody else."
  }
}

module "network" {
  source = "../modules/network"

  name            = var.name
  cidr            = var.cidr
  zones           = var.zones
  nat             = var.nat
  media_ports     = local.media_ports
  clients         = var.clients
  grafana_clients = var.monitoring.grafana_clients
  peers           = local.others
  is_home         = local.is_home
  home_cidr       = local.is_home ? null : local.regions[var.home.region].cidr
  kafka_port      = local.kafka_port
}

module "state" {
  source = "../modules/state"
  count  = local.is_home ? 1 : 0

  name               = var.name
  domain             = local.domain
  vpc_id             = module.network.vpc_id
  subnets            = module.network.private_subnets
  cidrs              = module.network.private_cidrs
  zones              = module.network.zones
  groups             = module.network.groups
  ami                = var.ami
  architecture       = var.architecture
  etcd_instance_type = var.etcd_instance_type
  redis_node_type    = var.redis_node_type
  kafka              = var.kafka
  generations        = { for name, generation in var.generations : name => generation if name != "grafana" }
  regions            = { for name, region in local.regions : name => { weight = region.weight, distances = region.distances } }
  edges              = [for name in keys(local.regions) : { region = name, cluster = local.cluster, service = local.service }]
  replicas           = keys(local.others)
}

module "edge" {
  source = "../modules/edge"

  name              = var.name
  region            = local.region
  image             = var.images.edge
  architecture      = var.architecture
  vpc_id            = module.network.vpc_id
  public_subnets    = module.network.public_subnets
  public_cidrs      = module.network.public_cidrs
  private_subnets   = module.network.private_subnets
  groups            = module.network.groups
  certificate_arn   = var.certificate_arn
  domain            = var.domain
  zone_id           = var.zone_id
  size              = { cpu = var.edges.cpu, memory = var.edges.memory }
  count_range       = { min = var.edges.min, max = var.edges.max }
  target            = { connections = var.edges.connections, cpu = var.edges.cpu_percent }
  drain             = var.edge_drain
  etcd_endpoints    = local.state.etcd_endpoints
  node_server_name  = local.state.node_server_name
  secrets           = local.secrets
  auth_has_previous = local.state.previous_auth
  revision          = local.state.revision
  kafka             = local.state.kafka == null ? null : { brokers = local.state.kafka.brokers, username = local.state.kafka.username }
  settings          = var.edge_settings
  log_days          = var.log_days
  nodes             = module.sfu.group
}

module "sfu" {
  source = "../modules/sfu"

  name           = var.name
  region         = local.region
  image          = var.images.node
  architecture   = var.architecture
  instance_types = var.nodes.instance_types
  ami            = var.ami
  count_range    = { min = var.nodes.min, max = var.nodes.max }
  target_load    = var.nodes.load
  spot           = var.nodes.spot
  drain_timeout  = var.nodes.drain
  media_ports    = local.media_ports
  subnets        = module.network.public_subnets
  group          = module.network.groups.node
  etcd_endpoints = local.state.etcd_endpoints
  tls_secret     = local.secrets.node
  kafka          = local.state.kafka == null ? null : { brokers = local.state.kafka.brokers, username = local.state.kafka.username, secret = local.secrets.kafka }
  recordings     = { for key in ["enabled", "archive_days", "expire_days", "destroy"] : key => var.recordings[key] }
  settings       = merge({ capacity = { egress_bps = var.nodes.egress_bps, tracks = var.nodes.tracks } }, var.node_settings)
}

module "monitoring" {
  source = "../modules/monitoring"

  name               = var.name
  region             = local.region
  vpc_id             = module.network.vpc_id
  private_subnets    = module.network.private_subnets
  public_subnets     = module.network.public_subnets
  zone               = module.network.zones[0]
  groups             = module.network.groups
  ami                = var.ami
  architecture       = var.architecture
  instance_type      = var.monitoring.instance_type
  grafana_image      = var.monitoring.grafana_image
  grafana_generation = var.generations.grafana
  certificate_arn    = module.edge.certificate_arn
  grafana_clients    = var.monitoring.grafana_clients
  domain             = var.domain
  zone_id            = var.zone_id
  cluster            = module.edge.cluster
  service            = module.edge.service
  alert_topic_arn    = var.monitoring.alert_topic_arn
  retention_days     = var.monitoring.days
  disk_gib           = var.monitoring.disk_gib
}
