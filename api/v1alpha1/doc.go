// Package v1alpha1 holds Gimbal's custom resource: UpstreamCluster, one cluster
// whose Services a discovery agent mirrors into the central cluster.
//
// +kubebuilder:object:generate=true
// +groupName=gimbal.projectcontour.io
package v1alpha1
