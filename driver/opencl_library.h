/* opencl_library.h: OpenCL's ICD loader, opened at run time, for driver/opencl*.c; OpenCL's headers and XRT's
 * extensions of it appear here only. The library is opened once and never closed. Thread-safe. */
#ifndef PF_DRIVER_OPENCL_LIBRARY_H
#define PF_DRIVER_OPENCL_LIBRARY_H
#define CL_TARGET_OPENCL_VERSION 120
#define CL_USE_DEPRECATED_OPENCL_1_2_APIS              /* clEnqueueTask */
#include <CL/cl.h>
#include <CL/cl_ext_xilinx.h>
#include "prefpga/error.h"

#define PF_CL_CALLS(F) \
	F(clGetPlatformIDs) F(clGetPlatformInfo) F(clGetDeviceIDs) F(clGetDeviceInfo) F(clCreateContext) \
	F(clReleaseContext) F(clCreateCommandQueue) F(clReleaseCommandQueue) F(clCreateProgramWithBinary) \
	F(clReleaseProgram) F(clCreateKernel) F(clReleaseKernel) F(clCreateBuffer) F(clCreateSubBuffer) \
	F(clReleaseMemObject) F(clEnqueueMigrateMemObjects) F(clSetKernelArg) F(clEnqueueTask) F(clEnqueueWriteBuffer) \
	F(clEnqueueReadBuffer) F(clFlush) F(clGetEventInfo) F(clGetEventProfilingInfo) F(clReleaseEvent)

/* The calls, usable after pf_cl_start has returned 0 */
struct pf_cl_library {
#define PF_CL_MEMBER(name) __typeof__(name) *name;
	PF_CL_CALLS(PF_CL_MEMBER)
#undef PF_CL_MEMBER
};
extern struct pf_cl_library pf_cl;

int pf_cl_start(struct pf_error *error);
#endif
