# Where recordings go.

resource "aws_s3_bucket" "recordings" {
  #checkov:skip=CKV_AWS_18:Who reads recordings is for CloudTrail's data events, which are an account's own choice.
  #checkov:skip=CKV_AWS_144:Recordings stay in the region they were made in.
  #checkov:skip=CKV_AWS_145:Encrypted with S3's own key; one of KMS costs a request for each object and keeps out nobody whom the policies let in.
  #checkov:skip=CKV2_AWS_62:Events of recordings go to Kafka.
  count = var.recordings.enabled ? 1 : 0

  bucket_prefix = "${var.name}-recordings-"
  # What people recorded is theirs: unless it is said, a region with recordings is not destroyed.
  force_destroy = var.recordings.destroy
}

resource "aws_s3_bucket_public_access_block" "recordings" {
  count = var.recordings.enabled ? 1 : 0

  bucket                  = aws_s3_bucket.recordings[0].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "recordings" {
  count = var.recordings.enabled ? 1 : 0

  bucket = aws_s3_bucket.recordings[0].id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_versioning" "recordings" {
  count = var.recordings.enabled ? 1 : 0

  bucket = aws_s3_bucket.recordings[0].id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_policy" "recordings" {
  count = var.recordings.enabled ? 1 : 0

  bucket = aws_s3_bucket.recordings[0].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "OnlyByTls"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [aws_s3_bucket.recordings[0].arn, "${aws_s3_bucket.recordings[0].arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })

  depends_on = [aws_s3_bucket_public_access_block.recordings]
}

resource "aws_s3_bucket_lifecycle_configuration" "recordings" {
  #checkov:skip=CKV_AWS_300:The rule `uploads` does that; the scanner looks at the other two alone.
  count = var.recordings.enabled ? 1 : 0

  bucket = aws_s3_bucket.recordings[0].id

  rule {
    id     = "uploads"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }

    noncurrent_version_expiration {
      noncurrent_days = 30
    }
  }

  dynamic "rule" {
    for_each = var.recordings.archive_days == null ? [] : [var.recordings.archive_days]

    content {
      id     = "archive"
      status = "Enabled"

      filter {}

      transition {
        days          = rule.value
        storage_class = "GLACIER_IR"
      }
    }
  }

  dynamic "rule" {
    for_each = var.recordings.expire_days == null ? [] : [var.recordings.expire_days]

    content {
      id     = "expire"
      status = "Enabled"

      filter {}

      expiration {
        days = rule.value
      }
    }
  }

  depends_on = [aws_s3_bucket_versioning.recordings]
}
