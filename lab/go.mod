module github.com/projectcontour/gimbal/lab

go 1.26.0

require (
	github.com/vishvananda/netns v0.0.5
	golang.org/x/mod v0.42.0
)

require golang.org/x/sys v0.2.0 // indirect
