package script

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// startCluster starts an upstream cluster of the story's own, to be stopped or broken.
func startCluster(s *story, args []string) (string, error) {
	if len(args) != 1 {
		return "", usage("cluster NAME")
	}
	if s.StartUpstream == nil {
		return "", errors.New("further clusters can't be started here")
	}
	c, stop, err := s.StartUpstream(args[0], filepath.Join(s.dir, ".cluster-"+args[0]))
	if err != nil {
		return "", err
	}
	s.atEnd(func(testscript.T) { _ = stop() })
	return "", s.enter(c)
}

// api stops, starts, pauses or resumes a cluster's API server.
func api(s *story, args []string) (string, error) {
	if len(args) != 2 {
		return "", usage("api CLUSTER stop|start|pause|resume")
	}
	c, err := s.cluster(args[0])
	if err != nil {
		return "", err
	}
	if c.API == nil {
		return "", fmt.Errorf("other stories use %s too; start a cluster of your own", c.Name)
	}
	switch args[1] {
	case "stop":
		if s.Installed != "" {
			// Later stories want it back, whatever becomes of this one.
			s.atEnd(func(testscript.T) { _ = c.API.StartAPIServer(context.Background()) })
		}
		return "", c.API.StopAPIServer()
	case "start":
		ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
		defer cancel()
		return "", c.API.StartAPIServer(ctx)
	case "pause":
		return "", c.API.PauseAPIServer()
	case "resume":
		return "", c.API.ResumeAPIServer()
	}
	return "", usage("api CLUSTER stop|start|pause|resume")
}

// etcd saves what a cluster's etcd holds, or takes the cluster back to what was saved.
func etcd(s *story, args []string) (string, error) {
	const use = "etcd CLUSTER save|restore"
	if len(args) != 2 {
		return "", usage(use)
	}
	c, err := s.cluster(args[0])
	if err != nil {
		return "", err
	}
	store, ok := c.API.(Etcd)
	if !ok {
		return "", fmt.Errorf("the etcd of %s is out of reach; start a cluster of your own", c.Name)
	}
	ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
	defer cancel()
	switch args[1] {
	case "save":
		return "", store.SaveEtcd(ctx)
	case "restore":
		return "", store.RestoreEtcd(ctx)
	}
	return "", usage(use)
}

// flood changes an EndpointSlice so many times a second until the story ends.
func flood(s *story, args []string) (string, error) {
	if len(args) != 3 {
		return "", usage("flood CLUSTER SLICE CHANGES-A-SECOND")
	}
	c, err := s.cluster(args[0])
	if err != nil {
		return "", err
	}
	rate, err := strconv.Atoi(args[2])
	if err != nil || rate < 1 {
		return "", fmt.Errorf("%q isn't a rate", args[2])
	}
	path := "/apis/discovery.k8s.io/v1/namespaces/" + s.team + "/endpointslices/" + args[1]
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(s.ctx)
	s.atEnd(func(testscript.T) { cancel(); <-done })
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			change := map[string]any{"endpoints": []any{map[string]any{"addresses": []string{fmt.Sprintf("10.9.%d.%d", i/250%250, 1+i%250)}}}}
			_ = c.Do(ctx, http.MethodPatch, path, change, nil)
		}
	}()
	return "", nil
}
