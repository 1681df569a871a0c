package main

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	appsapply "k8s.io/client-go/applyconfigurations/apps/v1"
	coreapply "k8s.io/client-go/applyconfigurations/core/v1"
	metaapply "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
)

const finalizer = "example.com/farewell"

// sites makes of every Site a ConfigMap and a Deployment, and leaves a farewell when it goes.
type sites struct {
	client.Client
	uncached client.Reader
	recorder events.EventRecorder
	name     string
}

func (r *sites) setup(manager ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(manager).
		For(&Site{}).
		Owns(&appsv1.Deployment{}).
		// Of ConfigMaps only the metadata is watched: another form of the same objects.
		Owns(&corev1.ConfigMap{}, builder.OnlyMetadata).
		Complete(r)
}

// Reconcile brings the children of one Site to what its spec says, and its status to what they are.
func (r *sites) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	site := &Site{}
	if err := r.Get(ctx, request.NamespacedName, site); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !site.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, r.farewell(ctx, site)
	}
	before := site.DeepCopyObject().(*Site)
	if controllerutil.AddFinalizer(site, finalizer) {
		patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
		if err := r.Patch(ctx, site, patch); err != nil {
			return ctrl.Result{}, err
		}
	}
	if err := r.page(ctx, site); err != nil {
		return ctrl.Result{}, err
	}
	generation, err := r.deployment(ctx, site)
	if err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{}, r.status(ctx, site, generation)
}

// page creates or updates the ConfigMap by what is there.
func (r *sites) page(ctx context.Context, site *Site) error {
	page := &corev1.ConfigMap{}
	key := client.ObjectKeyFromObject(site)
	err := r.uncached.Get(ctx, key, page)
	if apierrors.IsNotFound(err) {
		page = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: key.Name, Namespace: key.Namespace}}
	} else if err != nil {
		return err
	}
	if page.UID != "" && page.Data["title"] == site.Spec.Title {
		return nil
	}
	page.Data = map[string]string{"title": site.Spec.Title}
	if err := controllerutil.SetControllerReference(site, page, r.Scheme()); err != nil {
		return err
	}
	if page.UID == "" {
		r.recorder.Eventf(site, page, corev1.EventTypeNormal, "PageCreated", "Create", "the page says %q", site.Spec.Title)
		return r.Create(ctx, page)
	}
	r.recorder.Eventf(site, page, corev1.EventTypeNormal, "PageUpdated", "Update", "the page says %q", site.Spec.Title)
	return r.Update(ctx, page)
}

// deployment applies the Deployment on the server, as a manager of its own, and returns the generation it has then.
func (r *sites) deployment(ctx context.Context, site *Site) (int64, error) {
	labels := map[string]string{"site": site.Name}
	owner := metaapply.OwnerReference().
		WithAPIVersion(groupVersion.String()).WithKind("Site").WithName(site.Name).WithUID(site.UID).
		WithController(true).WithBlockOwnerDeletion(true)
	pod := coreapply.PodTemplateSpec().WithLabels(labels).WithSpec(coreapply.PodSpec().WithContainers(
		coreapply.Container().WithName("web").WithImage("web:1").
			WithEnv(coreapply.EnvVar().WithName("TITLE").WithValue(site.Spec.Title))))
	wanted := appsapply.Deployment(site.Name, site.Namespace).
		WithLabels(labels).WithOwnerReferences(owner).
		WithSpec(appsapply.DeploymentSpec().
			WithReplicas(site.Spec.Replicas).
			WithSelector(metaapply.LabelSelector().WithMatchLabels(labels)).
			WithTemplate(pod))
	if err := r.Apply(ctx, wanted, client.FieldOwner("site-operator"), client.ForceOwnership); err != nil {
		return 0, err
	}
	return *wanted.Generation, nil
}

// status says how far it is: the Deployment of that generation, if the cache has come to it.
func (r *sites) status(ctx context.Context, site *Site, generation int64) error {
	deployment := &appsv1.Deployment{}
	if err := r.Get(ctx, client.ObjectKeyFromObject(site), deployment); client.IgnoreNotFound(err) != nil {
		return err
	}
	before := site.DeepCopyObject().(*Site)
	site.Status.ObservedGeneration = site.Generation
	site.Status.ReadyReplicas = deployment.Status.ReadyReplicas
	site.Status.ReconciledBy = r.name
	ready := metav1.Condition{
		Type: "Ready", Status: metav1.ConditionFalse, Reason: "Waiting", ObservedGeneration: site.Generation,
		Message: fmt.Sprintf("%d of %d replicas are ready", deployment.Status.ReadyReplicas, site.Spec.Replicas),
	}
	done := deployment.Status.ObservedGeneration == generation &&
		deployment.Status.UpdatedReplicas == site.Spec.Replicas &&
		deployment.Status.Replicas == site.Spec.Replicas
	if done && deployment.Status.ReadyReplicas == site.Spec.Replicas {
		ready.Status, ready.Reason = metav1.ConditionTrue, "Shown"
	}
	if meta.SetStatusCondition(&site.Status.Conditions, ready) && ready.Status == metav1.ConditionTrue {
		r.recorder.Eventf(site, deployment, corev1.EventTypeNormal, "Ready", "Observe", "%s", ready.Message)
	}
	return r.Status().Patch(ctx, site, client.MergeFrom(before))
}

// farewell is what has to happen before a Site may go: a note that stays.
func (r *sites) farewell(ctx context.Context, site *Site) error {
	if !controllerutil.ContainsFinalizer(site, finalizer) {
		return nil
	}
	note := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "farewell-" + site.Name, Namespace: site.Namespace}}
	_, err := controllerutil.CreateOrUpdate(ctx, r.noted(), note, func() error {
		note.Data = map[string]string{"uid": string(site.UID), "by": r.name}
		return nil
	})
	if err != nil {
		return err
	}
	controllerutil.RemoveFinalizer(site, finalizer)
	return r.Update(ctx, site)
}

// noted writes as ever and reads past the cache, which holds no whole ConfigMaps.
func (r *sites) noted() client.Client {
	return uncachedReads{r.Client, r.uncached}
}

type uncachedReads struct {
	client.Client
	reader client.Reader
}

func (c uncachedReads) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	return c.reader.Get(ctx, key, object, options...)
}
