module skep.dev/distro/pause

go 1.26.0
