package v1alpha1

const (
	// Finalizer keeps an UpstreamCluster until its central objects are removed or released.
	Finalizer = Group + "/central-objects"

	// ConfirmDeletionsAnnotation lets held deletions happen once: set it on an
	// UpstreamCluster to the number that its status shows. It is removed when it has been read.
	ConfirmDeletionsAnnotation = Group + "/confirm-deletions"

	// ConfirmEndpointsAnnotation lets held endpoint losses happen once: set it on an
	// UpstreamCluster to the number that its status shows. It is removed when it has been read.
	ConfirmEndpointsAnnotation = Group + "/confirm-endpoints"

	// ConfirmIdentityAnnotation says that another cluster behind an UpstreamCluster is meant:
	// set it to the identity that the message of the condition Synced shows. It is removed
	// when it has been read.
	ConfirmIdentityAnnotation = Group + "/confirm-identity"
)
