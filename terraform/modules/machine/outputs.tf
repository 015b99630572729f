output "user_data" {
  description = "For an instance's user data, compressed (it may have 16 KB) and in Base64."
  value       = base64gzip("#cloud-config\n${yamlencode(local.config)}")
}
