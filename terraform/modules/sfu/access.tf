# What nodes may ask of AWS.

resource "aws_iam_role" "node" {
  name_prefix = "${var.name}-node-"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "ec2.amazonaws.com" }
    }]
  })
}

resource "aws_iam_instance_profile" "node" {
  name_prefix = "${var.name}-node-"
  role        = aws_iam_role.node.name
}

resource "aws_iam_role_policy" "node" {
  name = "node"
  role = aws_iam_role.node.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Sid      = "OwnSecrets"
          Effect   = "Allow"
          Action   = "secretsmanager:GetSecretValue"
          Resource = concat([var.tls_secret], var.kafka == null ? [] : [var.kafka.secret])
        },
        {
          Sid      = "OwnGroup"
          Effect   = "Allow"
          Action   = ["autoscaling:CompleteLifecycleAction", "autoscaling:RecordLifecycleActionHeartbeat"]
          Resource = "${local.arn}:autoscaling:${data.aws_region.current.region}:${data.aws_caller_identity.current.account_id}:autoScalingGroup:*:autoScalingGroupName/${local.group}"
        },
        {
          Sid       = "OwnLoad"
          Effect    = "Allow"
          Action    = "cloudwatch:PutMetricData"
          Resource  = "*"
          Condition = { StringEquals = { "cloudwatch:namespace" = "Sluice" } }
        },
        {
          Sid      = "RegistryToken"
          Effect   = "Allow"
          Action   = "ecr:GetAuthorizationToken"
          Resource = "*"
        },
        {
          Sid      = "Images"
          Effect   = "Allow"
          Action   = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
          Resource = "${local.arn}:ecr:*:${data.aws_caller_identity.current.account_id}:repository/*"
        },
      ],
      # Read, too: before one is written, a node looks whether it is there already, and what is not there is to be told from what is forbidden.
      [for bucket in aws_s3_bucket.recordings : {
        Sid      = "Recordings"
        Effect   = "Allow"
        Action   = ["s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload"]
        Resource = "${bucket.arn}/*"
      }],
      [for bucket in aws_s3_bucket.recordings : {
        Sid      = "RecordingsThere"
        Effect   = "Allow"
        Action   = "s3:ListBucket"
        Resource = bucket.arn
      }],
    )
  })
}
