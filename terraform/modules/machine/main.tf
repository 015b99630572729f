# What a machine is told at its first boot (cloud-init): which packages it has, what is written where, which units start. Debian 13 is what it is
# for. Secrets are not among it; machines fetch them by their own roles.

locals {
  shared = { for name in ["image", "imds", "packages", "secret", "secret-wait", "volume"] : name => file("${path.module}/files/${name}") }

  environment = join("", [for key, value in var.environment : "${key}=${value}\n"])

  config = {
    # Before packages come: one that starts by itself would stand where ours is to.
    bootcmd = [for unit in var.held : ["systemctl", "mask", unit]]
    write_files = concat(
      [{ path = "/etc/sluice/environment", permissions = "0644", content = local.environment }],
      [for path, content in var.files : { path = path, permissions = "0644", content = content }],
      [for name, content in merge(local.shared, var.scripts) : { path = "/usr/local/lib/sluice/${name}", permissions = "0755", content = content }],
      [for name, content in var.units : { path = "/etc/systemd/system/${name}", permissions = "0644", content = content }],
    )
    runcmd = concat(
      [["sysctl", "--quiet", "--system"], concat(["/usr/local/lib/sluice/packages"], var.packages), ["systemctl", "daemon-reload"]],
      [for unit in var.start : ["systemctl", "enable", "--now", "--no-block", unit]],
    )
  }
}
