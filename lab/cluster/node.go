package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/projectcontour/gimbal/lab/component"
	"github.com/projectcontour/gimbal/lab/process"
)

func (c *Cluster) file(name string) string { return filepath.Join(c.opts.Dir, name) }
func (c *Cluster) socket() string          { return filepath.Join(c.opts.Run, "containerd.sock") }

// startRuntime starts containerd and returns when it answers.
func (c *Cluster) startRuntime(ctx context.Context) error {
	if err := c.writeRuntimeFiles(); err != nil {
		return err
	}
	if err := c.spawn(component.Containerd, "--config", c.file("containerd.toml")); err != nil {
		return err
	}
	return process.Await(ctx, c.process(component.Containerd), func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.socket())
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// containerdConfig: its plugins that would write outside the lab's own
// directories are off, and it doesn't ask for oom scores that a container on a
// machine without CAP_SYS_RESOURCE may not have.
const containerdConfig = `version = 3
root = %q
state = %q
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt"]
[grpc]
address = %q
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = %q
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = [%q]
conf_dir = %q
[plugins."io.containerd.cri.v1.runtime".containerd]
default_runtime_name = "runc"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = %q
`

func (c *Cluster) writeRuntimeFiles() error {
	o := c.opts
	for _, dir := range []string{o.Run, c.file("cni")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	config := fmt.Sprintf(containerdConfig, c.file("containerd"), filepath.Join(o.Run, "containerd"), c.socket(),
		o.PauseImage, o.Bin, c.file("cni"), filepath.Join(o.Bin, component.Runc))
	if err := os.WriteFile(c.file("containerd.toml"), []byte(config), 0o644); err != nil {
		return err
	}
	// A link of its own for each pod, instead of a bridge: packets between pods of
	// a node are routed, so that kube-proxy sees them without a kernel module.
	cni, err := json.MarshalIndent(map[string]any{
		"cniVersion": "1.0.0", "name": "lab",
		"plugins": []any{
			map[string]any{"type": "ptp", "ipMasq": false, "ipam": map[string]any{
				"type": "host-local", "dataDir": c.file("ipam"),
				"ranges": [][]map[string]string{{{"subnet": o.NodePods.String()}}},
				"routes": []map[string]string{{"dst": "0.0.0.0/0"}},
			}},
			map[string]any{"type": "portmap", "capabilities": map[string]bool{"portMappings": true}, "backend": "nftables"},
		},
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(c.file("cni/10-lab.conflist"), cni, 0o644)
}

// writeNodeFiles writes what the node's programs need to talk to the control plane.
func (c *Cluster) writeNodeFiles() error {
	users := map[string][]string{
		component.Scheduler: {"system:kube-scheduler"},
		component.Kubelet:   {"system:node:" + c.opts.Name, "system:nodes"},
		component.Proxy:     {"system:kube-proxy"},
	}
	for name, user := range users {
		kubeconfig, err := c.UserKubeconfig(user[0], user[1:]...)
		if err != nil {
			return err
		}
		if err := os.WriteFile(c.file(name+".kubeconfig"), kubeconfig, 0o600); err != nil {
			return err
		}
	}
	if err := os.WriteFile(c.file("resolv.conf"), nil, 0o644); err != nil {
		return err
	}
	kubelet, err := json.MarshalIndent(c.kubeletConfig(), "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(c.file("kubelet.json"), kubelet, 0o644)
}

func (c *Cluster) kubeletConfig() map[string]any {
	o := c.opts
	return map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"failSwapOn": false, "failCgroupV1": false, "cgroupDriver": "cgroupfs", "cgroupsPerQOS": true,
		"cgroupRoot": "/" + o.Cgroup, "enforceNodeAllocatable": []string{},
		"containerRuntimeEndpoint": "unix://" + c.socket(),
		"authentication": map[string]any{
			"anonymous": map[string]any{"enabled": false}, "webhook": map[string]any{"enabled": false},
			"x509": map[string]any{"clientCAFile": c.CAFile()},
		},
		"authorization": map[string]any{"mode": "AlwaysAllow"},
		"address":       o.Node.String(), "port": 10250, "healthzPort": 0, "readOnlyPort": 0,
		// The lab shares its disk with all else on the machine: how full it is says nothing about the lab.
		"evictionHard":                map[string]any{"nodefs.available": "1%", "imagefs.available": "1%", "memory.available": "50Mi"},
		"imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99,
		"clusterDNS": []string{o.DNS.String()}, "clusterDomain": "cluster.local", "resolvConf": c.file("resolv.conf"),
		"podLogsDir": c.file("pod-logs"), "volumePluginDir": c.file("volume-plugins"),
		"nodeStatusUpdateFrequency": "5s", "nodeLeaseDurationSeconds": 20, "syncFrequency": "10s", "shutdownGracePeriod": "0s",
		"serializeImagePulls": false, "registryPullQPS": 0, "eventRecordQPS": 0,
	}
}

// startNode starts one of nodeComponents.
func (c *Cluster) startNode(name string) error {
	kubeconfig := c.file(name + ".kubeconfig")
	switch name {
	case component.Scheduler:
		return c.spawn(name, "--kubeconfig", kubeconfig, "--authentication-kubeconfig", kubeconfig,
			"--authorization-kubeconfig", kubeconfig, "--leader-elect=false", "--secure-port", "0")
	case component.Kubelet:
		return c.spawn(name, "--config", c.file("kubelet.json"), "--kubeconfig", kubeconfig,
			"--root-dir", c.file("kubelet"), "--cert-dir", c.file("kubelet-pki"),
			"--hostname-override", c.opts.Name, "--node-ip", c.opts.Node.String())
	default:
		return c.spawn(name, "--kubeconfig", kubeconfig, "--proxy-mode", "nftables", "--cluster-cidr", c.opts.Pods.String(),
			"--hostname-override", c.opts.Name, "--conntrack-max-per-core", "0",
			"--conntrack-tcp-timeout-established", "0", "--conntrack-tcp-timeout-close-wait", "0")
	}
}
