output "group" {
  description = "Name of the autoscaling group."
  value       = aws_autoscaling_group.node.name
}

output "recordings_bucket" {
  description = "Where recordings go; null: nowhere."
  value       = one(aws_s3_bucket.recordings[*].bucket)
}
