output "group" {
  description = "Name of the autoscaling group; known when its first nodes are ready."
  value       = aws_autoscaling_group.node.id
}

output "recordings_bucket" {
  description = "Where recordings go; null: nowhere."
  value       = one(aws_s3_bucket.recordings[*].bucket)
}
