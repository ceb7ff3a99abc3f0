package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// UpstreamCluster is one upstream cluster whose Services are mirrored into the
// central cluster. Its name is the backend name of central labels and object names.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=uc,categories=gimbal
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="the name must be a DNS label that starts with a letter: it becomes part of Service names"
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 40",message="the name may have at most 40 characters: it becomes part of Service names"
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Reachable",type=string,JSONPath=`.status.conditions[?(@.type=="Reachable")].status`
// +kubebuilder:printcolumn:name="Synced",type=string,JSONPath=`.status.conditions[?(@.type=="Synced")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.reason`
// +kubebuilder:printcolumn:name="Services",type=integer,JSONPath=`.status.services`
// +kubebuilder:printcolumn:name="Endpoints",type=integer,JSONPath=`.status.endpoints`
// +kubebuilder:printcolumn:name="Refused",type=integer,JSONPath=`.status.refused`
// +kubebuilder:printcolumn:name="Held",type=integer,JSONPath=`.status.heldDeletions`,description="deletions that the deletion guard holds"
// +kubebuilder:printcolumn:name="Held Endpoints",type=integer,JSONPath=`.status.heldEndpoints`,priority=1,description="Services whose endpoints the deletion guard holds"
// +kubebuilder:printcolumn:name="Complete",type=date,JSONPath=`.status.lastCompleteSync`,description="age of the last complete view; refreshed at most every five minutes while Reachable is True"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type UpstreamCluster struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec UpstreamClusterSpec `json:"spec"`
	// +optional
	Status UpstreamClusterStatus `json:"status,omitempty"`
}

// UpstreamClusterList is a list of UpstreamClusters.
//
// +kubebuilder:object:root=true
type UpstreamClusterList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []UpstreamCluster `json:"items"`
}

// UpstreamClusterSpec says which cluster is read, and what of it is mirrored.
//
// +kubebuilder:validation:XValidation:rule="has(self.kubernetes) || has(self.openstack)",message="the kind of upstream is missing: set spec.kubernetes or spec.openstack"
// +kubebuilder:validation:XValidation:rule="!(has(self.kubernetes) && has(self.openstack))",message="an upstream is of one kind: set spec.kubernetes or spec.openstack, not both"
type UpstreamClusterSpec struct {
	// Kubernetes makes the upstream a Kubernetes cluster.
	// +optional
	Kubernetes *KubernetesUpstream `json:"kubernetes,omitempty"`

	// OpenStack makes the upstream an OpenStack cloud, whose load balancers (Octavia) are
	// mirrored: each into the namespace of its project's name.
	// +optional
	OpenStack *OpenStackUpstream `json:"openstack,omitempty"`

	// Namespaces narrows what is mirrored to some of the upstream's namespaces. An
	// OpenStack project counts as the namespace of its name.
	// +optional
	// +kubebuilder:default={}
	Namespaces NamespaceSelection `json:"namespaces,omitempty"`

	// ServiceSelector narrows what is mirrored to Services with these labels. Empty selects every Service.
	// +optional
	ServiceSelector metav1.LabelSelector `json:"serviceSelector,omitempty"`

	// AllowedCIDRs are the only ranges in which endpoint addresses may lie. Empty
	// allows everything but the ranges that are always refused.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=49
	// +kubebuilder:validation:XValidation:rule="self.all(c, isCIDR(c))",message="every entry must be a CIDR such as 10.0.0.0/8 or fd00::/8"
	AllowedCIDRs []string `json:"allowedCIDRs,omitempty"`

	// Families are the address families whose endpoints are mirrored. Empty stands for those
	// of the central cluster's nodes, from which Envoy connects.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=2
	Families []Family `json:"families,omitempty"`

	// DeletionGuard holds deletions back when too many Services would vanish at once.
	// +optional
	// +kubebuilder:default={}
	DeletionGuard DeletionGuard `json:"deletionGuard,omitempty"`

	// StaleAfter is how long an upstream may be out of contact before its endpoints
	// are marked not ready: "never", or a duration such as 1h. Services are kept in any case.
	// +optional
	// +kubebuilder:default=never
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self == 'never' || (self.matches('^([0-9]+(s|m|h))+$') && duration(self) >= duration('1m'))",message="must be never, or a duration of at least 1m such as 30m or 12h"
	StaleAfter string `json:"staleAfter,omitempty"`

	// DeletionPolicy says what becomes of the central objects when the
	// UpstreamCluster is deleted: Delete removes them, Retain leaves them as they are.
	// +optional
	// +kubebuilder:default=Delete
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`

	// Paused stops the agent: nothing is read from the upstream or written for it.
	// +optional
	Paused bool `json:"paused,omitempty"`
}

// KubernetesUpstream says how a Kubernetes upstream is reached and how its applications are addressed.
type KubernetesUpstream struct {
	// KubeconfigSecret names the Secret, in the UpstreamCluster's namespace, that holds the kubeconfig.
	KubeconfigSecret SecretKey `json:"kubeconfigSecret"`

	// Addressing says which addresses stand for an application: its pods', its
	// nodes' with the node port, or its load balancer's.
	// +optional
	// +kubebuilder:default=Pod
	Addressing Addressing `json:"addressing,omitempty"`
}

// SecretKey is one key of a Secret in the same namespace.
type SecretKey struct {
	// Name is the Secret's name.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Key is the Secret's key that holds the kubeconfig.
	// +optional
	// +kubebuilder:default=kubeconfig
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key,omitempty"`
}

// Addressing is the kind of address that stands for an upstream application.
//
// +kubebuilder:validation:Enum=Pod;NodePort;LoadBalancer
type Addressing string

const (
	// AddressingPod uses the endpoints' own addresses.
	AddressingPod Addressing = "Pod"
	// AddressingNodePort uses the nodes' addresses, internal ones first, and the Service's node ports.
	AddressingNodePort Addressing = "NodePort"
	// AddressingLoadBalancer uses the Service's load balancer addresses and its ports.
	AddressingLoadBalancer Addressing = "LoadBalancer"
)

// OpenStackUpstream says how an OpenStack cloud is reached, what of it is mirrored, and how its applications are addressed.
type OpenStackUpstream struct {
	// CloudsSecret names the Secret, in the UpstreamCluster's namespace, that holds a clouds.yaml.
	CloudsSecret CloudsSecret `json:"cloudsSecret"`

	// PollInterval is the time from one reading of the cloud to the next: a duration from 1s to 1h, such as 30s or 2m.
	// +optional
	// +kubebuilder:default="30s"
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+(s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="must be a duration from 1s to 1h, such as 30s or 2m"
	PollInterval *metav1.Duration `json:"pollInterval,omitempty"`

	// HealthInterval is after how long the members of a load balancer that shows no
	// change are read again: Octavia doesn't show every change of a member's health on
	// its load balancer or pool. A duration from 1s to 24h.
	// +optional
	// +kubebuilder:default="15m"
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+(s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('24h')",message="must be a duration from 1s to 24h, such as 15m"
	HealthInterval *metav1.Duration `json:"healthInterval,omitempty"`

	// Projects narrows what is mirrored to some of the cloud's projects.
	// +optional
	// +kubebuilder:default={}
	Projects ProjectSelection `json:"projects,omitempty"`

	// Addressing says which addresses stand for an application: its members', or its
	// load balancer's virtual IP address (the floating one where there is one).
	// +optional
	// +kubebuilder:default=Member
	Addressing OpenStackAddressing `json:"addressing,omitempty"`
}

// CloudsSecret is one cloud of a clouds.yaml in a Secret in the same namespace.
type CloudsSecret struct {
	// Name is the Secret's name.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Key is the Secret's key that holds the clouds.yaml.
	// +optional
	// +kubebuilder:default=clouds.yaml
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key,omitempty"`
	// Cloud is the name of the cloud in the clouds.yaml. It may be left out where there is only one.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Cloud string `json:"cloud,omitempty"`
	// CAKey is the key of the Secret that holds the certificates, in PEM, of the
	// authorities that sign the cloud's: those of the system where empty.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	CAKey string `json:"caKey,omitempty"`
}

// ProjectSelection includes and excludes projects by name or id. An entry may be "*", which
// stands for all; exclusion wins.
type ProjectSelection struct {
	// Include are the projects that are mirrored.
	// +optional
	// +kubebuilder:default={"*"}
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:items:MaxLength=64
	Include []string `json:"include,omitempty"`
	// Exclude are those of them that aren't.
	// +optional
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:items:MaxLength=64
	Exclude []string `json:"exclude,omitempty"`
}

// OpenStackAddressing is the kind of address that stands for an application of a cloud.
//
// +kubebuilder:validation:Enum=Member;VIP
type OpenStackAddressing string

const (
	// AddressingMember uses the addresses and ports of the pools' members.
	AddressingMember OpenStackAddressing = "Member"
	// AddressingVIP uses the load balancer's virtual IP address and its listeners' ports.
	AddressingVIP OpenStackAddressing = "VIP"
)

// NamespaceSelection includes and excludes namespaces by name. A name may be "*", which
// stands for all; exclusion wins.
type NamespaceSelection struct {
	// Include are the namespaces that are mirrored.
	// +optional
	// +kubebuilder:default={"*"}
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:items:MaxLength=63
	Include []string `json:"include,omitempty"`
	// Exclude are those of them that aren't.
	// +optional
	// +kubebuilder:default={"kube-system","gimbal-discovery","gimbal-contour","gimbal-monitoring"}
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:items:MaxLength=63
	Exclude []string `json:"exclude,omitempty"`
}

// DeletionGuard holds deletions when more than MaxPercent of an upstream's Services
// would be deleted within ten minutes. Upstreams with fewer than MinServices Services are not guarded.
type DeletionGuard struct {
	// MaxPercent is the share of the Services that may go within ten minutes. 0 holds every
	// deletion, 100 none.
	// +optional
	// +kubebuilder:default=30
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	MaxPercent *int32 `json:"maxPercent,omitempty"`
	// MinServices is the number of Services from which on an upstream is guarded.
	// +optional
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=0
	MinServices *int32 `json:"minServices,omitempty"`
	// Endpoints says what happens when more than MaxPercent of the Services lose their last
	// ready endpoint within ten minutes: Report tells it by a condition and an event, Hold
	// also keeps their endpoints as they were until an operator confirms or they are back.
	// +optional
	// +kubebuilder:default=Report
	Endpoints EndpointsGuard `json:"endpoints,omitempty"`
}

// EndpointsGuard says what happens when many Services lose their last ready endpoint at once.
//
// +kubebuilder:validation:Enum=Report;Hold
type EndpointsGuard string

const (
	// EndpointsReport tells of it.
	EndpointsReport EndpointsGuard = "Report"
	// EndpointsHold keeps the endpoints as they were, too.
	EndpointsHold EndpointsGuard = "Hold"
)

// Family is an address family.
//
// +kubebuilder:validation:Enum=IPv4;IPv6
type Family string

const (
	// FamilyIPv4 is IPv4.
	FamilyIPv4 Family = "IPv4"
	// FamilyIPv6 is IPv6.
	FamilyIPv6 Family = "IPv6"
)

// DeletionPolicy says what becomes of central objects when their UpstreamCluster is deleted.
//
// +kubebuilder:validation:Enum=Delete;Retain
type DeletionPolicy string

const (
	// DeletionPolicyDelete removes the upstream's central objects.
	DeletionPolicyDelete DeletionPolicy = "Delete"
	// DeletionPolicyRetain leaves the upstream's central objects as they are.
	DeletionPolicyRetain DeletionPolicy = "Retain"
)

// Condition types of an UpstreamCluster.
const (
	// ConditionAccepted says whether the spec and its Secret can be used.
	ConditionAccepted = "Accepted"
	// ConditionReachable says whether the view of the upstream is complete and kept up to date.
	ConditionReachable = "Reachable"
	// ConditionSynced says whether the central objects are as the upstream has them.
	ConditionSynced = "Synced"
	// ConditionEndpointsLost says whether many Services have lost their last ready endpoint
	// at about the same time. Unlike the others it is False while all is well.
	ConditionEndpointsLost = "EndpointsLost"
)

// UpstreamClusterStatus is what the agent last reported.
type UpstreamClusterStatus struct {
	// Conditions are Accepted, Reachable, Synced and EndpointsLost.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// Reason is the reason of the first condition that isn't True, or of Synced: one word for a table.
	// +optional
	Reason string `json:"reason,omitempty"`

	// Services is how many central Services the upstream has.
	// +optional
	// +kubebuilder:default=0
	Services int32 `json:"services"`
	// Endpoints is how many endpoints those Services have.
	// +optional
	// +kubebuilder:default=0
	Endpoints int32 `json:"endpoints"`
	// Waiting is how many upstream Services wait for a central namespace of their name.
	// +optional
	// +kubebuilder:default=0
	Waiting int32 `json:"waiting"`
	// Refused is how many refusals there are at present.
	// +optional
	// +kubebuilder:default=0
	Refused int32 `json:"refused"`
	// Refusals are the refusals, in order of namespace and name, as far as the limit of 20 goes.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=20
	Refusals []Refusal `json:"refusals,omitempty"`
	// HeldDeletions is how many deletions the deletion guard holds back.
	// +optional
	// +kubebuilder:default=0
	HeldDeletions int32 `json:"heldDeletions"`
	// EndpointsLost is how many Services lost their last ready endpoint and have none yet,
	// while the condition EndpointsLost is True.
	// +optional
	EndpointsLost int32 `json:"endpointsLost,omitempty"`
	// HeldEndpoints is how many Services keep endpoints that the upstream no longer has,
	// since the deletion guard holds their loss.
	// +optional
	HeldEndpoints int32 `json:"heldEndpoints,omitempty"`
	// Identity says which cluster the central objects are of: the UID of a Kubernetes
	// cluster's Service default/kubernetes, or where an OpenStack cloud's Octavia is and
	// the credential's domain. Empty where that can't be told.
	// +optional
	Identity string `json:"identity,omitempty"`
	// LastCompleteSync is when the view of the upstream was last known to be complete.
	// While Reachable is True it is refreshed at most every five minutes.
	// +optional
	LastCompleteSync *metav1.Time `json:"lastCompleteSync,omitempty"`
}

// Refusal is one upstream object, or a part of one, that was not mirrored.
type Refusal struct {
	// Namespace is that of the upstream Service.
	Namespace string `json:"namespace"`
	// Service is the name of the upstream Service.
	Service string `json:"service"`
	// Reason is one word of a fixed set.
	Reason string `json:"reason"`
	// Message names the part, the reason and the way out.
	Message string `json:"message"`
}
