package main

import (
	"github.com/projectcontour/gimbal/internal/upstream"
	"github.com/projectcontour/gimbal/internal/upstream/kubernetes"
	"github.com/projectcontour/gimbal/internal/upstream/openstack"
)

// kinds returns the kinds of upstream that there are.
func kinds() []upstream.Kind {
	return []upstream.Kind{
		kubernetes.Kind{},
		openstack.Kind{},
	}
}
