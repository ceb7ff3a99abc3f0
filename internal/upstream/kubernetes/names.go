package kubernetes

import "github.com/projectcontour/gimbal/internal/mirror"

// The reasons to refuse an object, or a part of one, that only this kind of upstream has.
const (
	ReasonExternalName   mirror.Reason = "ExternalName"   // Services of that type aren't mirrored
	ReasonNoNodePort     mirror.Reason = "NoNodePort"     // addressing is NodePort, the Service or a port has none
	ReasonNoNodeAddress  mirror.Reason = "NoNodeAddress"  // addressing is NodePort, a node has no address of the Service's families
	ReasonNoLoadBalancer mirror.Reason = "NoLoadBalancer" // addressing is LoadBalancer, the Service has no address
)
