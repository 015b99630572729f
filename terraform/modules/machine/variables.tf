variable "packages" {
  description = "Packages of Debian that are installed before anything is started; those that are there already are left as they are."
  type        = list(string)
}

variable "held" {
  description = "Units of those packages that are not to start: the machine has its own in their place."
  type        = list(string)
  default     = []
}

variable "environment" {
  description = "What scripts of the machine find in their environment."
  type        = map(string)
}

variable "files" {
  description = "Contents of files by their paths. Nothing in them is secret: who may ask EC2 for a machine's user data sees them."
  type        = map(string)
}

variable "scripts" {
  description = "Programs, by the names they have in /usr/local/lib/sluice."
  type        = map(string)
}

variable "units" {
  description = "Units of systemd by their names."
  type        = map(string)
}

variable "start" {
  description = "Those of them that are started, in this order, and at each boot."
  type        = list(string)
}
