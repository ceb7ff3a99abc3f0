package central

import "sync"

// Namespaces is the set of central namespaces in which objects can be created.
type Namespaces struct {
	mu    sync.RWMutex
	names map[string]bool
}

// NewNamespaces returns an empty set.
func NewNamespaces() *Namespaces { return &Namespaces{names: map[string]bool{}} }

// Has reports whether objects can be created in a namespace.
func (n *Namespaces) Has(name string) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.names[name]
}

// Set records whether a namespace is there and says whether that is news.
func (n *Namespaces) Set(name string, there bool) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	was := n.names[name]
	if there {
		n.names[name] = true
	} else {
		delete(n.names, name)
	}
	return was != there
}
