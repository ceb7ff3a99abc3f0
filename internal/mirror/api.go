package mirror
// API sketch: to be replaced by the real files.
//
//  names.go
//    const LabelBackend, LabelService, AnnotationSource ("gimbal.projectcontour.io/backend|service|source"), ManagedBy ("discovery.gimbal.projectcontour.io")
//    func ServiceName(backend string, k Key) string
//    func SliceName(backend, namespace, slice string) string
//    func Ambiguous(a, b string) bool
//  owner.go
//    func Owner(o metav1.Object) (backend string, k Key, ok bool)
//  address.go
//    type AddressPolicy; func NewAddressPolicy(allowed []string, central []netip.Prefix) (AddressPolicy, error)
//    func (p AddressPolicy) Check(address string, family discoveryv1.AddressType) (Reason, error)
//  selection.go
//    type Selection struct{ Include, Exclude []string; ... }; func (s Selection) Namespace(name string) bool
//  desired.go
//    type Rules struct{ Backend string; Addresses AddressPolicy; DeniedLabels []string }
//    type Objects struct{ Service *corev1.Service; Slices []*discoveryv1.EndpointSlice }
//    func (r Rules) Desired(s *Service) (Objects, []Refusal)
//    func Expired(current Objects) Objects     every endpoint not ready, all else equal
//  plan.go
//    type Verb string: Create, Update, Delete
//    type Change struct{ Verb Verb; Service *corev1.Service; Slice *discoveryv1.EndpointSlice; Patch []byte; Why []string }
//    func Plan(desired, current Objects) []Change
//  trim.go
//    func TrimService(*corev1.Service) *corev1.Service; func TrimSlice(*discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice
//  guard.go
//    type Guard struct{ MaxPercent, MinServices int }; func (g Guard) Allows(total, deletions int) bool
