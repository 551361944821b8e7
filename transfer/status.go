package transfer

import (
	"context"
	"slices"

	"davit/manifest"
	"davit/manifest/index"
)

// Status is what a site knows of its projects, here and at its peers.
type Status struct {
	Site         string
	Environments []string // columns: local ones by name, remote ones as site/environment
	Projects     []ProjectStatus
	Shipments    []index.Shipment // newest last
	Inbox        []index.InboxItem
	Peers        []index.Peer
	Pending      map[string]int // by peer: receipts and results that wait to be sent
	Traffic      map[string]Traffic
}

// Traffic is what went to a peer and came from it, in bytes of bundles, and
// about what deltas saved of it.
type Traffic struct {
	Sent, SentSaved         int64
	Received, ReceivedSaved int64
}

// ProjectStatus is one row of the grid.
type ProjectStatus struct {
	Project  string
	Newest   string          // highest version that is visible here
	Deployed map[string]Cell // by environment
	Peers    []PeerState     // the newest release on its way to each peer
}

// Cell says what is deployed in one environment.
type Cell struct {
	index.Deployment
	// RolledBack: the version is lower than the one deployed before.
	RolledBack bool
	// Running is the version of the last deployment that succeeded, where the
	// last one did not.
	Running string
}

// PeerState says how far a release has come on its way to a peer.
type PeerState struct {
	Peer, Version, State string // the shipment's state, and once it is acknowledged what the peer made of the release
	Serial               int64
	Reason               string // of a rejection
}

// Status collects the grid of projects and environments.
func (s *Site) Status(ctx context.Context) (*Status, error) {
	st := &Status{Site: s.Name(), Pending: map[string]int{}, Traffic: map[string]Traffic{}}
	releases, err := s.Index.Releases(ctx, "")
	if err != nil {
		return nil, err
	}
	runs, err := s.Index.Deployments(ctx, index.DeploymentFilter{})
	if err != nil {
		return nil, err
	}
	if st.Shipments, err = s.Index.Shipments(ctx, index.ShipmentFilter{}); err != nil {
		return nil, err
	}
	if st.Inbox, err = s.Index.InboxOpen(ctx); err != nil {
		return nil, err
	}
	if st.Peers, err = s.Index.Peers(ctx); err != nil {
		return nil, err
	}
	for _, p := range st.Peers {
		pending, err := s.Index.PendingDocuments(ctx, p.Name)
		if err != nil {
			return nil, err
		}
		st.Pending[p.Name] = len(pending)
		received, err := s.Index.Received(ctx, p.Name)
		if err != nil {
			return nil, err
		}
		var t Traffic
		for _, b := range received {
			t.Received += b.Bytes
			t.ReceivedSaved += b.Saved
		}
		for _, sh := range st.Shipments {
			if sh.Peer == p.Name {
				t.Sent += sh.Bytes
				t.SentSaved += sh.Saved
			}
		}
		st.Traffic[p.Name] = t
	}
	row := func(project string) *ProjectStatus {
		i := slices.IndexFunc(st.Projects, func(p ProjectStatus) bool { return p.Project == project })
		if i < 0 {
			st.Projects = append(st.Projects, ProjectStatus{Project: project, Deployed: map[string]Cell{}})
			i = len(st.Projects) - 1
		}
		return &st.Projects[i]
	}
	for _, r := range releases { // by version, so the last one is the highest
		row(r.Project).Newest = r.Version
	}
	var local, remote []string
	for _, run := range slices.Backward(runs) { // oldest first
		name := run.Environment
		columns := &local
		if run.Site != "" {
			name, columns = run.Site+"/"+run.Environment, &remote
		}
		if !slices.Contains(*columns, name) {
			*columns = append(*columns, name)
		}
		p := row(run.Project)
		before := p.Deployed[name]
		cell := Cell{Deployment: run}
		switch running := before.running(); {
		case run.Status != manifest.StatusSucceeded:
			cell.Running = running
		case running != "" && manifest.CompareVersions(run.Version, running) < 0:
			cell.RolledBack = true
		}
		p.Deployed[name] = cell
	}
	slices.Sort(local)
	slices.Sort(remote)
	st.Environments = append(local, remote...)
	for _, sh := range st.Shipments {
		for _, r := range sh.Releases {
			p := row(r.Project)
			state := PeerState{Peer: sh.Peer, Version: r.Version, State: sh.State, Serial: sh.Serial}
			for _, a := range sh.Answers {
				if a.Release == r.Release {
					state.State, state.Reason = a.State, a.Reason
				}
			}
			if i := slices.IndexFunc(p.Peers, func(o PeerState) bool { return o.Peer == sh.Peer }); i >= 0 {
				p.Peers[i] = state
			} else {
				p.Peers = append(p.Peers, state)
			}
		}
	}
	slices.SortFunc(st.Projects, func(a, b ProjectStatus) int {
		if a.Project < b.Project {
			return -1
		}
		return 1
	})
	return st, nil
}

// running is the version that is in effect, as far as is known.
func (c Cell) running() string {
	if c.Status == manifest.StatusSucceeded {
		return c.Version
	}
	return c.Running
}
