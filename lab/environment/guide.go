package environment

import "github.com/projectcontour/gimbal/lab/samples"

// printGuide tells the user what there is and what to try.
func (in *inside) printGuide() {
	in.say("\nexport KUBECONFIG=%s", in.state.Kubeconfig())
	in.say("export PATH=%s:$PATH", in.state.Bin())
	for _, plan := range in.state.Plan.Clusters {
		in.say("context %-10s API server %s, pods %s", plan.Name, in.clusters[plan.Name].URL(), plan.Pods)
	}
	if in.cloud != nil {
		in.say("OpenStack %-8s Keystone %s, Octavia %s, members %s", in.cloud.Name(), in.cloud.AuthURL(), in.cloud.OctaviaURL(), in.state.Plan.Members.Range)
	}
	if !in.state.Bare && len(in.upstreams()) > 0 {
		in.printTry()
	}
	if !in.state.Bare && in.cloud != nil {
		in.printTryOpenStack()
	}
	in.say("\nCtrl-C ends the lab and leaves nothing behind.")
}

func (in *inside) printTry() {
	first := in.upstreamNames()[0]
	in.say(`
The tier is at http://%[1]s:8080. To try:
  curl -H 'Host: web.team-a.example.com' http://%[1]s:8080/
  kubectl --context %[2]s -n gimbal-discovery get upstreamclusters
  kubectl gimbal status --context %[2]s
  kubectl --context %[2]s -n team-a get services,endpointslices
  kubectl --context %[3]s -n team-a scale deployment web --replicas 5
  kubectl --context %[3]s -n team-a rollout restart deployment web
  lab stop %[3]s apiserver     (and: lab start %[3]s apiserver)`,
		in.state.Plan.Clusters[0].Node, in.central().Name(), first)
}

func (in *inside) printTryOpenStack() {
	shop := samples.Shops(in.state.Plan.Members.Range)[0]
	in.say(`
Load balancers of OpenStack are an upstream too. To try:
  curl -H 'Host: shop.%[1]s.example.com' http://%[2]s:8080/
  lab member stop %[3]s     (and: lab member start %[3]s %[4]s)
  lab pause %[5]s octavia     (and: lab resume %[5]s octavia)
  export OS_CLIENT_CONFIG_FILE=%[6]s OS_CACERT=%[7]s     (clouds %[5]s and %[5]s-admin)`,
		shop.Team, in.state.Plan.Clusters[0].Node, shop.Members[0].At, shop.Members[0].Name, in.cloud.Name(), in.cloud.CloudsFile(), in.cloud.CAFile())
}
