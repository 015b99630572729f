# Two regions' networks, as one: by AWS' own backbone, encrypted. What may pass is for each side's security groups.

resource "aws_vpc_peering_connection" "this" {
  provider = aws.home

  vpc_id      = var.home.vpc_id
  peer_vpc_id = var.joining.vpc_id
  peer_region = var.joining.region

  tags = { Name = "${var.name}-${var.joining.region}" }
}

resource "aws_vpc_peering_connection_accepter" "this" {
  provider = aws.joining

  vpc_peering_connection_id = aws_vpc_peering_connection.this.id
  auto_accept               = true

  tags = { Name = "${var.name}-${var.home.region}" }
}

resource "aws_route" "to_joining" {
  provider = aws.home
  count    = length(var.home.route_tables)

  route_table_id            = var.home.route_tables[count.index]
  destination_cidr_block    = var.joining.cidr
  vpc_peering_connection_id = aws_vpc_peering_connection_accepter.this.id
}

resource "aws_route" "to_home" {
  provider = aws.joining
  count    = length(var.joining.route_tables)

  route_table_id            = var.joining.route_tables[count.index]
  destination_cidr_block    = var.home.cidr
  vpc_peering_connection_id = aws_vpc_peering_connection_accepter.this.id
}

resource "aws_route53_zone_association" "this" {
  provider = aws.home
  count    = var.tells_names ? 1 : 0

  zone_id    = var.zone_id
  vpc_id     = var.joining.vpc_id
  vpc_region = var.joining.region
}
