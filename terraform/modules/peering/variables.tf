variable "name" {
  description = "What names of resources begin with."
  type        = string
}

variable "home" {
  description = "The network of one region, that where the state stands if it is one of the two: the output `network` of its module."
  type        = object({ vpc_id = string, cidr = string, route_tables = list(string), region = string })
}

variable "joining" {
  description = "The network of the other region."
  type        = object({ vpc_id = string, cidr = string, route_tables = list(string), region = string })
}

variable "zone_id" {
  description = "The deployment's private zone."
  type        = string
  default     = null
}

variable "tells_names" {
  description = "Whether the other region gets to know the names of that zone by this: of each region but the home one such peering does."
  type        = bool
  default     = true
}
