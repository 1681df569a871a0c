// Command scheduler says what kube-scheduler's plugins make of cluster states: it reads
// one state a line (objects and the pod to place) and prints one answer a line: the
// feasible nodes with their scores, the reasons of the others, and what preemption would
// evict on every node. `make scheduler-differential` compares with Carrack's answers.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"sync"

	v1 "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	schedconfig "k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/latest"
	"k8s.io/kubernetes/pkg/scheduler/backend/cache"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/defaultpreemption"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/feature"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/names"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodevolumelimits"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"
	"k8s.io/kubernetes/pkg/scheduler/metrics"
)

type state struct {
	Objects []json.RawMessage `json:"objects"`
	Pod     json.RawMessage   `json:"pod"`
}

type eviction struct {
	Victims    []string `json:"victims"`
	Violations int64    `json:"violations"`
}

type answer struct {
	Scores     map[string]int64    `json:"scores"`
	Message    string              `json:"message"`
	Candidates map[string]eviction `json:"candidates"`
	Chosen     string              `json:"chosen"`
}

// nominator knows the nominated pods of a state.
type nominator map[string][]fwk.PodInfo

func (n nominator) AddNominatedPod(klog.Logger, fwk.PodInfo, *fwk.NominatingInfo) {}
func (n nominator) DeleteNominatedPodIfExists(*v1.Pod)                            {}
func (n nominator) UpdateNominatedPod(klog.Logger, *v1.Pod, fwk.PodInfo)          {}
func (n nominator) NominatedPodsForNode(node string) []fwk.PodInfo                { return n[node] }

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// profile is the default one without what Carrack leaves out.
func profile() *schedconfig.KubeSchedulerProfile {
	config := must(latest.Default())
	profile := &config.Profiles[0]
	left := profile.Plugins.MultiPoint.Enabled[:0]
	for _, plugin := range profile.Plugins.MultiPoint.Enabled {
		switch plugin.Name {
		case names.DynamicResources, names.NodeDeclaredFeatures, names.GangScheduling:
		default:
			left = append(left, plugin)
		}
	}
	profile.Plugins.MultiPoint.Enabled = left
	return profile
}

func decode(raw json.RawMessage) runtime.Object {
	object, _, err := scheme.Codecs.UniversalDeserializer().Decode(raw, nil, nil)
	return must(object, err)
}

func solve(line []byte) answer {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var in state
	if err := json.Unmarshal(line, &in); err != nil {
		panic(err)
	}
	pod := decode(in.Pod).(*v1.Pod)
	var nodes []*v1.Node
	var placed []*v1.Pod
	objects := []runtime.Object{pod}
	nominated := nominator{}
	for _, raw := range in.Objects {
		object := decode(raw)
		objects = append(objects, object)
		switch object := object.(type) {
		case *v1.Node:
			nodes = append(nodes, object)
		case *v1.Pod:
			if object.Spec.NodeName != "" {
				placed = append(placed, object)
			} else if node := object.Status.NominatedNodeName; node != "" {
				nominated[node] = append(nominated[node], must(framework.NewPodInfo(object)))
			}
		}
	}
	if node := pod.Status.NominatedNodeName; node != "" {
		nominated[node] = append(nominated[node], must(framework.NewPodInfo(pod)))
	}
	client := fake.NewClientset(objects...)
	factory := informers.NewSharedInformerFactory(client, 0)
	csi := nodevolumelimits.NewCSIManager(factory.Storage().V1().CSINodes().Lister())
	snapshot := cache.NewSnapshot(placed, nodes)
	f := must(frameworkruntime.NewFramework(ctx, plugins.NewInTreeRegistry(), profile(),
		frameworkruntime.WithClientSet(client), frameworkruntime.WithInformerFactory(factory),
		frameworkruntime.WithSnapshotSharedLister(snapshot), frameworkruntime.WithPodNominator(nominated),
		frameworkruntime.WithSharedCSIManager(csi), frameworkruntime.WithParallelism(1)))
	features := feature.NewSchedulerFeaturesFromGates(utilfeature.DefaultFeatureGate)
	preemption := must(defaultpreemption.New(ctx,
		&schedconfig.DefaultPreemptionArgs{MinCandidateNodesPercentage: 10, MinCandidateNodesAbsolute: 100}, f, features))
	_ = factory.Policy().V1().PodDisruptionBudgets().Informer()
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())

	out := answer{Scores: map[string]int64{}, Candidates: map[string]eviction{}}
	cycle := framework.NewCycleState()
	fit := &framework.FitError{Pod: pod, NumAllNodes: len(nodes),
		Diagnosis: framework.Diagnosis{NodeToStatus: framework.NewDefaultNodeToStatus()}}
	result, status, rejecting := f.RunPreFilterPlugins(ctx, cycle, pod)
	if !status.IsSuccess() {
		fit.Diagnosis.PreFilterMsg = status.Message()
		out.Message = fit.Error()
		return out
	}
	all := must(snapshot.NodeInfos().List())
	looked := all
	if !result.AllNodes() {
		looked = nil
		for name := range result.NodeNames {
			if info, err := snapshot.NodeInfos().Get(name); err == nil {
				looked = append(looked, info)
			}
		}
		fit.Diagnosis.NodeToStatus.SetAbsentNodesStatus(fwk.NewStatus(fwk.UnschedulableAndUnresolvable,
			fmt.Sprintf("node(s) didn't satisfy plugin(s) %v", sortedList(rejecting))))
	}
	var feasible []fwk.NodeInfo
	for _, info := range looked {
		if status := f.RunFilterPluginsWithNominatedPods(ctx, cycle, pod, info); status.IsSuccess() {
			feasible = append(feasible, info)
		} else {
			fit.Diagnosis.NodeToStatus.Set(info.Node().Name, status)
		}
	}
	if len(feasible) == 0 {
		out.Message = fit.Error()
		preempt(ctx, f, preemption, cycle, pod, fit, &out)
		return out
	}
	if status := f.RunPreScorePlugins(ctx, cycle, pod, feasible); !status.IsSuccess() {
		panic(status.AsError())
	}
	scores, status := f.RunScorePlugins(ctx, cycle, pod, feasible)
	if !status.IsSuccess() {
		panic(status.AsError())
	}
	for _, score := range scores {
		out.Scores[score.Name] = score.TotalScore
	}
	return out
}

func preempt(ctx context.Context, f framework.Framework, preemption *defaultpreemption.DefaultPreemption,
	cycle fwk.CycleState, pod *v1.Pod, fit *framework.FitError, out *answer) {
	statuses := fit.Diagnosis.NodeToStatus
	if ok, message := preemption.PodEligibleToPreemptOthers(ctx, pod, statuses.Get(pod.Status.NominatedNodeName)); !ok {
		out.Message += " preemption: " + message
		return
	}
	potential := must(statuses.NodesForStatusCode(f.SnapshotSharedLister().NodeInfos(), fwk.Unschedulable))
	failed := framework.NewDefaultNodeToStatus()
	if len(potential) > 0 {
		pdbs := must(f.SharedInformerFactory().Policy().V1().PodDisruptionBudgets().Lister().List(labels.Everything()))
		sort.Slice(pdbs, func(i, j int) bool { return key(pdbs[i]) < key(pdbs[j]) })
		candidates, refused, err := preemption.Evaluator.DryRunPreemption(ctx, cycle, pod, potential, pdbs, 0, int32(len(potential)+1))
		if err != nil {
			out.Message += " " + err.Error()
		}
		for _, candidate := range candidates {
			found := eviction{Violations: candidate.Victims().NumPDBViolations, Victims: []string{}}
			for _, victim := range candidate.Victims().Pods {
				found.Victims = append(found.Victims, victim.Name)
			}
			sort.Strings(found.Victims)
			out.Candidates[candidate.Name()] = found
		}
		if chosen := preemption.Evaluator.SelectCandidate(ctx, candidates); chosen != nil {
			out.Chosen = chosen.Name()
			return
		}
		failed = refused
	}
	failed.SetAbsentNodesStatus(fwk.NewStatus(fwk.UnschedulableAndUnresolvable, "Preemption is not helpful for scheduling"))
	useless := &framework.FitError{Pod: pod, NumAllNodes: fit.NumAllNodes, Diagnosis: framework.Diagnosis{NodeToStatus: failed}}
	out.Message += " preemption: " + useless.Error()
}

func key(pdb *policy.PodDisruptionBudget) string { return pdb.Namespace + "/" + pdb.Name }

func sortedList[S ~map[string]V, V any](set S) []string {
	var list []string
	for one := range set {
		list = append(list, one)
	}
	sort.Strings(list)
	return list
}

func main() {
	klog.LogToStderr(false)
	klog.SetOutput(discard{})
	metrics.Register()
	scanner := bufio.NewScanner(os.Stdin)
	scanner.Buffer(make([]byte, 1<<20), 1<<28)
	type job struct {
		line   []byte
		result chan answer
	}
	jobs, order := make(chan job), make(chan job, 64)
	var workers sync.WaitGroup
	for range 16 {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for job := range jobs {
				job.result <- solve(job.line)
			}
		}()
	}
	go func() {
		for scanner.Scan() {
			one := job{append([]byte(nil), scanner.Bytes()...), make(chan answer, 1)}
			order <- one
			jobs <- one
		}
		close(order)
		close(jobs)
	}()
	encoder := json.NewEncoder(os.Stdout)
	for one := range order {
		if err := encoder.Encode(<-one.result); err != nil {
			panic(err)
		}
	}
	workers.Wait()
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
