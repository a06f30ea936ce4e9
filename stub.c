int cufftXtMakePlanMany(void){return 100;}
int cufftDestroy(void){return 100;}
int cufftSetWorkArea(void){return 100;}
int cufftXtExec(void){return 100;}
int cufftCreate(void){return 100;}
int cufftSetStream(void){return 100;}
int cufftSetAutoAllocation(void){return 100;}
