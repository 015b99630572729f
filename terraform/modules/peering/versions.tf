terraform {
  required_version = ">= 1.11"
  required_providers {
    aws = {
      source                = "hashicorp/aws"
      version               = "~> 6.50"
      configuration_aliases = [aws.home, aws.joining]
    }
  }
}
