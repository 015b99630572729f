# This file is maintained automatically by "terraform init".
# Manual edits may be lost in future updates.

provider "registry.terraform.io/hashicorp/aws" {
  version     = "6.69.1"
  constraints = "~> 6.50"
  hashes = [
    "h1:IfUtpWyo8I8l/BW0W/b1vpOwHJ0PRQ2hQUu36Kk7OgE=",
  ]
}
